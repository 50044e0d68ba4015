"""Work for a client that may leave before it is done."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request as Exchange

from thermoscope.server.errors import ClientGoneError

Value = TypeVar("Value")


async def unless_gone(exchange: Exchange, work: Coroutine[Any, Any, Value]) -> Value:
    """What the work gives; it is cancelled as soon as the client closes the connection.

    **Errors:** those of the work; `ClientGoneError`.
    """

    async def watch() -> None:
        while (await exchange.receive())["type"] != "http.disconnect":
            pass

    watcher, working = asyncio.create_task(watch()), asyncio.create_task(work)
    try:
        await asyncio.wait((watcher, working), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return working.result()
    finally:
        watcher.cancel()
        working.cancel()
