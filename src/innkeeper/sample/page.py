"""The guest book's one page, as HTML. Called by handler.py for ``GET /``; everything a visitor wrote is escaped."""

import html
from dataclasses import dataclass

from innkeeper.sample.database import Note

_STYLE = """\
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5d6b7a; --paper: #f6f4ef; --card: #fff; --line: #e3dfd6;
  --accent: #9a4a1c; --on-accent: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #ece7de; --soft: #a39d92; --paper: #17191c; --card: #202327;
  --line: #34383d; --accent: #e8a06b; --on-accent: #1b1206 } }
* { box-sizing: border-box }
body { margin: 0; font: 17px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
main { max-width: 42rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4rem) 1.25rem }
h1 { font: 600 clamp(2rem, 7vw, 3rem)/1.1 ui-serif, Georgia, serif; margin: 0; overflow-wrap: anywhere }
.lead { color: var(--soft); margin: .6rem 0 2rem }
dl { display: flex; flex-wrap: wrap; gap: 1px; margin: 0 0 2rem;
  background: var(--line); border: 1px solid var(--line); border-radius: .75rem; overflow: hidden }
dl div { flex: 1 1 9rem; background: var(--card); padding: .8rem 1rem }
dt { color: var(--soft); font-size: .8rem }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
form { display: flex; flex-wrap: wrap; gap: .6rem; margin: 0 0 1.5rem }
label { flex: 1 0 100%; font-weight: 600 }
input { flex: 1 1 14rem; font: inherit; color: inherit; background: var(--card); padding: .6rem .8rem;
  border: 1px solid var(--line); border-radius: .5rem }
button { font: inherit; font-weight: 600; padding: .6rem 1.2rem; border: 0; border-radius: .5rem;
  color: var(--on-accent); background: var(--accent); cursor: pointer }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
ol { list-style: none; margin: 0; padding: 0 }
li { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: .8rem 1rem;
  margin-bottom: .6rem; overflow-wrap: anywhere }
time { display: block; color: var(--soft); font-size: .8rem }
.empty { color: var(--soft) }
"""

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{slug} · guest book</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1>{slug}</h1>
<p class="lead">A guest book in a workspace of its own. What you write stays, even while the workspace sleeps.</p>
<dl>
<div><dt>Visit</dt><dd>No. {visits}</dd></div>
<div><dt>Awake for</dt><dd>{uptime}</dd></div>
<div><dt>Database</dt><dd>{database}</dd></div>
</dl>
<form method="post" action="/notes">
<label for="text">Write something</label>
<input id="text" name="text" required maxlength="500" autocomplete="off" placeholder="I was here">
<button>Keep it</button>
</form>
{notes}
</main>
</body>
</html>
"""

_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page shows. ``uptime`` in seconds."""

    slug: str
    database: str
    visits: int
    uptime: float
    notes: list[Note]


def render(facts: Facts) -> str:
    return _PAGE.format(
        style=_STYLE,
        slug=html.escape(facts.slug),
        database=html.escape(facts.database),
        visits=f"{facts.visits:,}",
        uptime=duration(facts.uptime),
        notes=_notes(facts.notes),
    )


def duration(seconds: float) -> str:
    """``0.3 s``, ``12 s``, ``4 min``, ``3 h 20 min``."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(int(seconds) // _MINUTE, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _notes(notes: list[Note]) -> str:
    if not notes:
        return '<p class="empty">Nothing yet: be the first.</p>'
    items = "\n".join(
        f'<li>{html.escape(note.text)}<time datetime="{note.written_at.isoformat()}">'
        f"{note.written_at:%d %B %Y, %H:%M:%S %Z}</time></li>"
        for note in notes
    )
    return f"<ol>\n{items}\n</ol>"
