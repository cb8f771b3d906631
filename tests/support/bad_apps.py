"""Small applications that do one thing wrong. Called by e2e tests that show what the product says about it.

spec = bad_app(tmp_path, "quitter", "sys.exit(3)")      # the path of its app.yaml
spec = bad_app(tmp_path, "deaf", SERVES, health="{path: /nowhere, start_timeout: 1s}")
"""

from pathlib import Path

_HEAD = """
import http.server, os, signal, socket, socketserver, sys, threading, time


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = 200 if self.path in ("/", "/healthz") else 404
        self.send_response(status)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\\n")

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    server_bind = socketserver.TCPServer.server_bind  # asks no name server what its address is called


def serve(port=None):
    Server((os.environ["HOST"], port or int(os.environ["PORT"])), Handler).serve_forever()


"""

SERVES = "serve()"
"""Nothing wrong: the control."""

_SPEC = """
apiVersion: innkeeper.dev/v1
kind: App
name: {name}
version: 1.0.0
image: localhost/{name}:1.0.0
command: {command}
port: 8080
health: {health}
env: {{DATABASE_URL: "{{database_url}}", HOST: "{{host}}", PORT: "{{port}}"}}
database: {database}
"""


def bad_app(
    folder: Path,
    name: str,
    source: str = SERVES,
    *,
    command: str | None = None,
    health: str = "{path: /healthz, start_timeout: 60s}",
    database: str = "{connections: 2}",
) -> str:
    program, spec = folder / f"{name}.py", folder / f"{name}.yaml"
    program.write_text(_HEAD + source + "\n")
    spec.write_text(
        _SPEC.format(name=name, command=command or f"[python3, {program}]", health=health, database=database)
    )
    return str(spec)
