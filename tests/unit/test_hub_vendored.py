"""What the hub vendors is what VENDORED.md says, and no page names another origin."""

import hashlib
import re
from importlib import resources
from pathlib import Path

STATIC = Path(str(resources.files("innkeeper.hub") / "static"))
TEMPLATES = Path(str(resources.files("innkeeper.hub") / "templates"))


def test_vendored_files_are_unchanged_and_all_listed():
    folder = STATIC / "vendor"
    listed = dict(
        re.findall(r"^\| `([^`]+)` .*`([0-9a-f]{64})` \|$", (folder / "VENDORED.md").read_text(), re.MULTILINE)
    )
    present = {path.name for path in folder.iterdir() if "LICENSE" not in path.name and path.name != "VENDORED.md"}
    assert present == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_every_vendored_file_names_a_licence_that_is_there():
    folder = STATIC / "vendor"
    licences = set(re.findall(r"[\w.-]+\.LICENSE(?:\.md)?", (folder / "VENDORED.md").read_text()))
    assert licences == {path.name for path in folder.glob("*LICENSE*")}


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_every_text_is_readable_in_both_schemes():
    css = (STATIC / "hub.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part)) for part in css.split("color-scheme: dark", 1)
    )
    dark = {name: dark[name] for name in light}  # the dark scheme names every colour, and again for Pico below
    chips = [(name, f"{name}-ground") for name in ("good", "busy", "quiet", "bad", "gone")]
    texts = [(ink, ground) for ink in ("ink", "soft", "accent") for ground in ("ground", "paper", "sunken")]
    states = [(name, "paper") for name in ("good", "bad")]
    for scheme in (light, dark):
        for text, ground in [*chips, *texts, *states, ("on-accent", "accent"), ("on-accent", "accent-deep")]:
            assert contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground, scheme[text], scheme[ground])


def test_own_pages_name_no_other_origin_and_nothing_inline():
    own = [*TEMPLATES.glob("*.html"), STATIC / "hub.css", STATIC / "hub.js"]
    assert len(own) > 10
    for path in own:
        text = path.read_text()
        assert not re.search(r"(?:src|href|url)[=(]\s*[\"']?(?:https?:)?//", text), path.name
        assert not re.search(r"<style|<script(?![^>]*src=)|\son\w+=|\sstyle=|hx-on|hx-vals=.js:", text), path.name
