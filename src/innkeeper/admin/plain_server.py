"""Python's own HTTP server, in a thread: for the metrics, and for a worker's probes (bootstrap/worker_probes.py).

Standard library only: a worker loads no web framework for two answers.
"""

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer


def answering(
    handler: type[BaseHTTPRequestHandler], *, host: str, port: int, name: str
) -> tuple[int, Callable[[], None]]:
    """Let ``handler`` answer, in a thread of that name: the port (a free one for 0), and how to end it.

    ``host``: an address, IPv4 or IPv6. OSError where it cannot be listened at.
    """
    server = _Server((host, port), handler)
    thread = threading.Thread(target=server.serve_forever, name=name, daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_address[1]), stop


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """HTTPServer's own asks name servers what its address is called, and waits for them."""
        TCPServer.server_bind(self)
