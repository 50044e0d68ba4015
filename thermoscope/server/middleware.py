"""What holds for every exchange: headers, a bound on the body, an answer in any case, a line in the log."""

import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thermoscope.server import logs
from thermoscope.server.errors import respond

BODY_LIMIT = 8 * 2**20
SANE_ID = re.compile(r"[A-Za-z0-9._:/=+-]{1,128}")


class Exchange:
    """Stamps responses with an id and the time they took, bounds bodies, answers unexpected errors, and logs.

    The id is what the client calls its request (`x-request-id`), if that is short and plain, or a new one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        size = 0
        given = Headers(scope=scope).get("x-request-id", "")
        entry = logs.Entry(
            request_id=given if SANE_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}",
            method=scope["method"],
            path=scope["path"],
            client=scope["client"][0] if scope.get("client") else None,
        )

        def elapsed() -> float:
            return 1e3 * (time.perf_counter() - began)

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = entry.request_id
                headers["openai-processing-ms"] = str(round(elapsed()))
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > BODY_LIMIT:
                raise HTTPException(413, f"body: got more than {BODY_LIMIT} bytes; send less.")
            return message

        mine = logs.current.set(entry)
        try:
            await self.app(scope, bounded, stamped)
        except Exception as error:
            if entry.status is not None:
                raise
            await respond(error)(scope, receive, stamped)
        finally:
            logs.current.reset(mine)
            entry.ms = elapsed()
            entry.write()
