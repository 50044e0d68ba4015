"""Whom a request may address: a page of another site must not reach this server under that site's name.

A site can have its own name resolve to 127.0.0.1 once its page is loaded (DNS rebinding). The browser then
takes this server for that site and lets its page read every answer; but the Host header still says its name.
"""

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send


class Hosts:
    """Answers to addresses, to localhost and to the given names, and to no other; its refusal is 403.

    `names` may have a port, which does not count. A request without the header is no browser's, and is
    answered.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self.app = app
        self._names = {"localhost", *map(name, names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        host = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if host is not None and not self._known(name(host)):
            raise HTTPException(
                403,
                f"Host: got {host!r}, expected an address, localhost, or a name that this server was told; "
                f"to have it answer to another, start it with --allowed-host NAME.",
            )
        await self.app(scope, receive, send)

    def _known(self, host: str) -> bool:
        return host in self._names or host.endswith(".localhost") or _is_address(host)


def name(host: str) -> str:
    """The name or address of a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    bare = host.rpartition(":")[0] if ":" in host else host
    return bare.lower().removesuffix(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
