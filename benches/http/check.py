"""Asks a server for /100, /N and /N again over one connection: N bytes each, the same twice, and the first those of /100.

check.py PORT N        prints how many bytes an answer to /N has, head and body
"""

import re
import socket
import sys

STEP_TIMEOUT = 20.0


def receive(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        data = connection.recv(min(1 << 20, size - len(received)))
        if not data:
            sys.exit(f"the connection ended after {len(received)} of {size} bytes")
        received += data
    return bytes(received)


def ask(connection: socket.socket, size: int) -> tuple[int, bytes]:
    """The length of an answer in all, and its body."""
    connection.sendall(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % size)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive(connection, 1)
    if not head.startswith(b"HTTP/1.1 200 "):
        sys.exit(f"/{size} is answered by {head.splitlines()[0]!r}")
    told = re.search(rb"\r\ncontent-length: *(\d+)\r\n", head, re.IGNORECASE)
    if told is None or int(told[1]) != size:
        sys.exit(f"the head of /{size} does not announce {size} bytes: {head!r}")
    return len(head) + size, receive(connection, size)


def main() -> None:
    port, size = int(sys.argv[1]), int(sys.argv[2])
    with socket.create_connection(("127.0.0.1", port), STEP_TIMEOUT) as connection:
        _, short = ask(connection, 100)
        length, body = ask(connection, size)
        _, again = ask(connection, size)
        if body != again or body[:100] != short[:size]:
            sys.exit(f"the bodies of /100, /{size} and /{size} again differ where they should not")
        connection.setblocking(False)
        try:
            surplus = connection.recv(1)
            sys.exit("the connection was not kept" if surplus == b"" else "something follows the body")
        except BlockingIOError:
            print(length)


if __name__ == "__main__":
    main()
