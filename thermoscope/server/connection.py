"""A client's connection: uvicorn's, which nobody holds for nothing.

Who sends a request a byte at a time, or does not read the answer, costs memory and a file descriptor for as
long as that lasts. uvicorn bounds the size of a request's head, and how long a connection is idle.
"""

import asyncio
import json

import h11
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from thermoscope.server.errors import describe

ASKING = 60.0  # seconds from a request's first byte to its last
READING = 60.0  # seconds in which a client must take what waits for it
NO_HTTP = "request: got what is no HTTP/1.1, or more than 64 KiB before its head ended; send a request."


class Connection(H11Protocol):
    """uvicorn's own, ended where a request, or the reading of an answer, takes too long.

    An exchange finds it in its scope's state, under `connection`.
    """

    _asking: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # noqa: D102
        super().connection_made(transport)
        self.app_state = self.app_state | {"connection": self}
        self._begin_asking()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._begin_asking()
        else:
            self._end_asking()

    def send_400_response(self, _: str) -> None:
        """What is no HTTP, answered in the form of all errors; not in the midst of another answer."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # what it would say has no place any more
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(describe(HTTPException(400, NO_HTTP))[1]).encode()
            headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
            answer = h11.Response(status_code=400, headers=[*headers, ("connection", "close")])
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()

    @property
    def streaming(self) -> bool:
        """Whether an answer is under way in chunks, and the client takes all that it is sent."""
        return (
            self.scope["http_version"] == "1.1"  # before it there were no chunks
            and self.conn.our_state is h11.SEND_BODY
            and not (self.flow.write_paused or self.transport.is_closing())
        )

    def write(self, body: bytes) -> None:
        """Send more of the body while it is `streaming`, in the bytes that h11 would make of it."""
        self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))

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
        self.app_state = {}  # in which the connection held itself
        if self.scope is not None:
            self.scope["state"].pop("connection", None)
        self._end_asking()
        self.resume_writing()

    def _begin_asking(self) -> None:
        if self._asking is None:
            self._asking = self.loop.call_later(ASKING, self.transport.abort)

    def _end_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
