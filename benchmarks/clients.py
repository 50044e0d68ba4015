"""Clients of an OpenAI server that measure: lean ones, for they share the machine with what they measure."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from thermoscope.errors import ThermoscopeError


@dataclass
class Heard:
    """One answer as it arrived, by the clock, and what it said of itself; or the `error` in its place."""

    sent: float = 0.0
    times: list[float] = field(
        default_factory=list
    )  # of pieces with text, one a token but for held-back bytes
    ended: float = 0.0
    usage: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.times[0] - self.sent

    @property
    def tokens(self) -> int:
        return int(self.usage["completion_tokens"])

    @property
    def cached(self) -> int:
        """Tokens of the prompt that the server had already, as far as it says."""
        return int((self.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)


@dataclass(frozen=True)
class Server:
    """Where one listens, the model's name there, and fields that go on past the model's own end."""

    url: str
    model: str
    extra: dict[str, Any]

    async def ask(
        self, user: str, tokens: int, *, system: str | None = None, heard: Heard | None = None, **more: Any
    ) -> Heard:
        """A streamed greedy answer of so many tokens. `heard` fills meanwhile, for who wants to look."""
        turns = [{"role": "system", "content": system}] if system else []
        body = {
            **{"model": self.model, "messages": [*turns, {"role": "user", "content": user}]},
            **{"max_tokens": tokens, "temperature": 0, "stream": True},
            **{"stream_options": {"include_usage": True}},
            **self.extra,
            **more,
        }
        where = urlsplit(self.url)
        data = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        heard = heard or Heard()
        listener = _Listener(heard)
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: listener, where.hostname, where.port
        )
        heard.sent = time.perf_counter()
        try:
            transport.write(head.encode() + data)
            await listener.ended
        finally:
            heard.ended = time.perf_counter()
            transport.close()
        if not heard.error and (not heard.times or not heard.usage):
            heard.error = f"{listener.status.decode()}: the answer broke off"
        return heard


class _Listener(asyncio.Protocol):
    """Hears an answer as it comes from the socket: reading it by lines would cost five reads a token."""

    def __init__(self, heard: Heard) -> None:
        self.status = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._heard = heard
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line, now)

    def connection_lost(self, _: Exception | None) -> None:
        if self.status != b"200":  # what is left of an answer that broke off is no event
            self._line(self._rest, time.perf_counter())
        if not self.ended.done():
            self.ended.set_result(None)

    def _line(self, line: bytes, now: float) -> None:
        if line.startswith(b"data: {"):
            self._event(line[6:], now)
        elif not self.status:
            self.status = [*line.split(), b"", b""][1]
        elif self.status != b"200" and line.startswith(b"{"):
            self._heard.error = line.decode()

    def _event(self, data: bytes, now: float) -> None:
        """One event; only the first and those without text are parsed, which costs more than reading them."""
        if b'"content":"' in data and b'"content":""' not in data:
            self._heard.times.append(now)
            return
        piece = json.loads(data)
        if "error" in piece:
            self._heard.error = json.dumps(piece["error"])
        self._heard.usage = piece.get("usage") or self._heard.usage


async def closed_loop(
    clients: int, requests: int, ask: Callable[[int], Awaitable[Heard]]
) -> tuple[float, list[Heard]]:
    """So many clients at once, each with so many requests, one after the other: seconds, and all answers.

    `ask` gets a number that no other request has.
    """

    async def client(number: int) -> list[Heard]:
        return [await ask(number * requests + index) for index in range(requests)]

    since = time.perf_counter()
    heard = await asyncio.gather(*map(client, range(clients)))
    return time.perf_counter() - since, [each for of_one in heard for each in of_one]


async def until(heard: Sequence[Heard], tokens: int) -> float:
    """Wait until each has said so many tokens; the moment when that is so.

    **Errors:** `ThermoscopeError` if one ends before.
    """
    while min(len(each.times) for each in heard) < tokens:
        if ended := [each for each in heard if each.ended]:
            raise ThermoscopeError(f"an answer ended after {len(ended[0].times)} tokens: {ended[0].error}")
        await asyncio.sleep(0.01)
    return time.perf_counter()


def gaps(heard: Sequence[Heard], begin: float, end: float) -> list[float]:
    """Seconds between an answer's tokens, of all that came within two moments."""
    return [
        after - before
        for each in heard
        for before, after in zip(each.times, each.times[1:], strict=False)
        if begin <= after <= end
    ]
