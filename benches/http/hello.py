"""A small HTTP/1.1 server on asyncio or uvloop, parsed by httptools: /N answers N bytes.

hello.py {asyncio,uvloop} PORT
"""

import asyncio
import sys
from collections import deque
from typing import cast

import httptools

MOST = 16 << 20
BODY = memoryview(b"x" * MOST)
# Up to here, head and body are joined: a copy is cheaper than a second write.
SHORT = 64 << 10
# asyncio copies what the socket does not take, uvloop keeps a reference: asyncio is handed about what a socket takes.
PIECES = {"asyncio": 256 << 10, "uvloop": MOST}

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Hello(asyncio.Protocol):
    """One connection."""

    __slots__ = ("is_last", "parser", "paused", "piece", "transport", "url", "waiting")

    def __init__(self, piece: int) -> None:
        self.piece = piece
        self.paused = False
        self.is_last = False
        self.url = b""
        self.waiting: deque[bytes | memoryview] = deque()
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_message_complete(self) -> None:
        size = self.url[1:]
        if not size.isdigit() or int(size) > MOST:
            self.say(NOT_FOUND)
        else:
            self.answer(int(size))
        self.is_last = not self.parser.should_keep_alive()
        self.end_if_done()

    def answer(self, size: int) -> None:
        if size <= SHORT:
            self.say(b"".join((OK % size, BODY[:size])))
            return
        self.say(OK % size)
        for start in range(0, size, self.piece):
            if self.transport.is_closing():
                return
            self.say(BODY[start : min(start + self.piece, size)])

    def say(self, data: bytes | memoryview) -> None:
        """Writes it, behind what waits."""
        if self.paused or self.waiting:
            self.waiting.append(data)
        else:
            self.transport.write(data)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        while self.waiting and not self.paused:
            self.transport.write(self.waiting.popleft())
            if self.transport.is_closing():
                self.waiting.clear()
        self.end_if_done()

    def end_if_done(self) -> None:
        if self.is_last and not self.waiting:
            self.transport.close()


async def serve(kind: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Hello(PIECES[kind]), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "uvloop":
        import uvloop

        uvloop.install()
    asyncio.run(serve(kind, port))


if __name__ == "__main__":
    main()
