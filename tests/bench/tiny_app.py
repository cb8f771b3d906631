"""A workspace that is up in the time a Python interpreter needs: it answers every request with its process id.

Run as ``python3 -IS tiny_app.py``; imports nothing that the interpreter has not loaded already, but for sockets.
START_DELAY: seconds it takes over its start, as larger applications do.
"""

import _socket
import os
from time import sleep

sleep(float(os.environ.get("START_DELAY", "0")))
listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
listener.bind((os.environ["HOST"], int(os.environ["PORT"])))
listener.listen(1024)
body = b"%d" % os.getpid()
answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
while True:
    descriptor, _ = listener._accept()  # pyright: ignore[reportAttributeAccessIssue] - what socket.accept calls
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, descriptor)
    try:
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
        else:
            connection.send(answer)
    except OSError:
        pass  # whoever asked has left
    connection.close()
