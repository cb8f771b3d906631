"""What makes a server that does not speak TLS speak it, and nothing else: a program of the standard library.

    python3 -c PROGRAM postgresql|https PORT INNER_PORT CERTIFICATE KEY

Of PostgreSQL a client that does not ask for TLS is hung up on. Runs in a pod beside the server: support.production.
"""

import select
import socket
import ssl
import struct
import sys
import threading

ASKS_FOR_TLS = struct.pack("!II", 8, 80877103)
CHUNK = 65536


def serve(protocol: str, port: int, inner: int, context: ssl.SSLContext) -> None:
    with socket.create_server(("0.0.0.0", port), backlog=256) as listener:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=attend, args=(protocol, client, inner, context), daemon=True).start()


def attend(protocol: str, client: socket.socket, inner: int, context: ssl.SSLContext) -> None:
    """One connection, to its end."""
    with client:
        if protocol == "postgresql":
            if client.recv(8, socket.MSG_WAITALL) != ASKS_FOR_TLS:
                return
            client.sendall(b"S")
        with (
            context.wrap_socket(client, server_side=True) as outside,
            socket.create_connection(("127.0.0.1", inner)) as inside,
        ):
            join(outside, inside)


def join(outside: ssl.SSLSocket, inside: socket.socket) -> None:
    while True:
        ready = [outside] if outside.pending() else select.select([outside, inside], [], [])[0]
        for one, other in ((outside, inside), (inside, outside)):
            if one in ready:
                data = one.recv(CHUNK)
                if not data:
                    return
                other.sendall(data)


if __name__ == "__main__":
    told = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    told.load_cert_chain(sys.argv[4], sys.argv[5])
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), told)
