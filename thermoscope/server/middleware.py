"""What holds for every exchange: its headers, the size of its body, and an answer whatever happens."""

import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thermoscope.server.errors import respond

BODY_LIMIT = 8 * 2**20


class Exchange:
    """Stamps responses with an id and the time they took, bounds bodies, and answers unexpected errors."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        started = False
        size = 0

        async def stamped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = f"req_{uuid.uuid4().hex}"
                headers["openai-processing-ms"] = str(round(1000 * (time.perf_counter() - began)))
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > BODY_LIMIT:
                raise HTTPException(413, f"body: got more than {BODY_LIMIT} bytes; send less.")
            return message

        try:
            await self.app(scope, bounded, stamped)
        except Exception as error:
            if started:
                raise
            await respond(error)(scope, receive, stamped)
