"""A client's connection: uvicorn's, which nobody holds for nothing.

Who sends a request a byte at a time, or does not read the answer, costs memory and a file descriptor for as
long as that lasts. uvicorn bounds how long a connection is idle, and nothing else.
"""

import asyncio
import json

from starlette.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from thermoscope.server.errors import describe

ASKING = 60.0  # seconds from a request's first byte to its last
READING = 60.0  # seconds in which a client must take what waits for it
HEAD = 64 * 2**10  # bytes of a request's line and headers
LONG = f"head: got more than {HEAD} bytes, which is the most for a request's line and headers; send less."


class Connection(HttpToolsProtocol):
    """uvicorn's own, ended where a request, or the reading of an answer, takes too long or too much."""

    _asking: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _in_head = False
    _head = 0  # bytes of its whole lines so far
    _came = 0  # bytes that came while it was not complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # noqa: D102
        super().connection_made(transport)
        self._begin_asking()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        super().data_received(data)
        if self._in_head:  # perhaps a line without an end, of which the parser says nothing
            self._came += len(data)
            if self._came > HEAD and not self.transport.is_closing():
                self.send_400_response(LONG)

    def on_message_begin(self) -> None:
        """A request's first byte is here."""
        super().on_message_begin()
        self._in_head, self._head, self._came = True, 0, 0
        self._begin_asking()

    def on_url(self, url: bytes) -> None:
        """The request's line, or some of it."""
        self._take(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._take(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The whole head is here."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request's last byte is here."""
        super().on_message_complete()
        self._end_asking()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, answered in the form of all errors; not in the midst of another answer."""
        if self.cycle is None or self.cycle.response_complete:
            long = max(self._head, self._came) > HEAD
            status, problem = describe(HTTPException(431, LONG) if long else HTTPException(400, msg))
            body = json.dumps(problem).encode()
            head = (
                f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()

    def pause_writing(self) -> None:
        """More waits for the client than the buffer is meant to hold."""
        super().pause_writing()
        if self._reading is None:
            self._reading = self.loop.call_later(READING, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken nearly all of it."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever the reason."""
        super().connection_lost(exc)
        self._end_asking()
        self.resume_writing()

    def _take(self, size: int) -> None:
        self._head += size
        if self._head > HEAD:
            raise ValueError(LONG)  # the parser stops, and says that this is no HTTP

    def _begin_asking(self) -> None:
        if self._asking is None:
            self._asking = self.loop.call_later(ASKING, self.transport.abort)

    def _end_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
