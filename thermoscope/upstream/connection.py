"""The way to another server: its address, its key, and what goes there and back.

A reading asks from a thread of its own, a server from its event loop; both ways fail alike.
"""

import json
from collections.abc import AsyncIterator, Mapping
from functools import cached_property
from typing import Any

import httpx

from thermoscope.errors import InvalidRequest
from thermoscope.upstream.events import Events
from thermoscope.upstream.failure import broken_off, parsed, refused, unreachable

TIMEOUT = httpx.Timeout(600, connect=5)  # seconds; a long prompt on a slow machine is silent for minutes
# A connection is used once: a server may close one that waits at any moment, and the request that comes next
# on it is lost. How many there are at once is for the other server to say.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=0)


class Connection:
    """A server behind OpenAI's API. `url`: with or without /v1. `key`: for its Authorization header.

    `transport`, `async_transport`: httpx's, where the server is in this process.

    **Errors:** `InvalidRequest` for a URL that is none; every request may raise `UpstreamFailed`.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        async_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = _checked(url)
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._options: dict[str, Any] = {
            "base_url": self.url, "headers": headers, "timeout": TIMEOUT, "limits": LIMITS
        }  # fmt: skip
        self._transport = transport
        self._async_transport = async_transport

    def __repr__(self) -> str:
        return f"Connection({self.url!r})"  # never the key

    def get(self, path: str) -> dict[str, Any]:
        """What stands at an address."""
        return parsed(self._received("GET", path, None).content, self.url)

    def post(self, path: str, body: Mapping[str, Any], patience: float | None = None) -> dict[str, Any]:
        """The answer to a request. `patience`: seconds that each piece of it may take."""
        return parsed(self._received("POST", path, body, patience).content, self.url)

    async def ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request, on an event loop."""
        try:
            response = await self._async.post(path, content=_encoded(body))
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from None
        return parsed(_successful(response).content, self.url)

    async def open(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """A streamed answer once its status is known, to be read by `events` and closed by `aclose`."""
        try:
            request = self._async.build_request("POST", path, content=_encoded(body))
            response = await self._async.send(request, stream=True)
            if response.status_code != httpx.codes.OK:
                await response.aread()
                _successful(response)
            return response
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from None

    async def events(self, response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        """The pieces of an open answer as they come."""
        events = Events(self.url)
        try:
            async for piece in response.aiter_bytes():
                for each in events.feed(piece):
                    yield each
                if events.ended:
                    return
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from None
        raise broken_off(self.url)

    def pieces(self, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The pieces of a streamed answer, once all of them are there."""
        events = Events(self.url)
        found = list(events.feed(self._received("POST", path, body).content))
        if not events.ended:
            raise broken_off(self.url)
        return found

    def close(self) -> None:
        """Let go of the connections that readings used."""
        self._sync.close()

    @cached_property
    def _sync(self) -> httpx.Client:
        return httpx.Client(**self._options, transport=self._transport)

    @cached_property
    def _async(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(**self._options, transport=self._async_transport)

    def _received(
        self, method: str, path: str, body: Mapping[str, Any] | None, patience: float | None = None
    ) -> httpx.Response:
        timeout = TIMEOUT if patience is None else httpx.Timeout(patience)
        try:
            content = None if body is None else _encoded(body)
            response = self._sync.request(method, path, content=content, timeout=timeout)
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from None
        return _successful(response)


def _successful(response: httpx.Response) -> httpx.Response:
    """The same, whose body is read, unless it says that something failed."""
    if response.status_code != httpx.codes.OK:
        raise refused(response.status_code, response.content, response.headers.get("retry-after"))
    return response


def _encoded(body: Mapping[str, Any]) -> bytes:
    """JSON, for what a client sent was read by a parser that takes more than JSON."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"body: got what JSON does not hold ({error}), expected JSON.") from None


def _checked(url: str) -> str:
    """The root of the API: https://host/v1."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"upstream: got {url!r} ({error}), expected a URL.", param="upstream") from None
    if parsed.userinfo:  # without saying what it was: this line may go into a log
        raise InvalidRequest(
            "upstream: got a URL with a name or a password in it; give a key apart.", param="upstream"
        )
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise InvalidRequest(
            f"upstream: got {url!r}, expected a server's address, as http://127.0.0.1:8001/v1.",
            param="upstream",
        )
    return f"{str(parsed).rstrip('/').removesuffix('/v1')}/v1"
