"""An application that the test opens: it starts at once, and serves only when a file is there. For slow starts.

    app = gated_app(tmp_path)        # the folder of app.yaml, with the gate shut
    stack.inn("app", "add", app.spec)
    app.open()

Behind the gate it is the sample app, with two secrets: one its owner is shown, one nobody is.
"""

from dataclasses import dataclass
from pathlib import Path

_PROGRAM = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.02)
import innkeeper.sample.__main__  # it ends by itself
"""

_SPEC = """
apiVersion: innkeeper.dev/v1
kind: App
name: {name}
version: 1.0.0
image: localhost/{name}:1.0.0
command: [python3, {program}, {gate}]
port: 8080
health: {{path: /healthz, start_timeout: 120s}}
env:
  DATABASE_URL: "{{database_url}}"
  HOST: "{{host}}"
  PORT: "{{port}}"
  SLUG: "{{slug}}"
secrets:
  OWNERS: {{generate: true, show: owner}}
  HIDDEN: {{generate: true}}
database: {{connections: 2}}
"""


@dataclass(frozen=True)
class GatedApp:
    """``spec``: its file. Every workspace of it waits at the one gate."""

    name: str
    spec: str
    gate: Path

    def open(self) -> None:
        self.gate.touch()

    def shut(self) -> None:
        """For starts from now on."""
        self.gate.unlink(missing_ok=True)


def gated_app(folder: Path, name: str = "gated") -> GatedApp:
    gate, program, spec = folder / f"{name}.open", folder / f"{name}.py", folder / f"{name}.yaml"
    program.write_text(_PROGRAM)
    spec.write_text(_SPEC.format(name=name, program=program, gate=gate))
    return GatedApp(name, str(spec), gate)
