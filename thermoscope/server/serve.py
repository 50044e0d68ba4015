"""Bring a model up on a port, and take it down again."""

import asyncio
import contextlib
import math
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import uvicorn
from starlette.concurrency import run_in_threadpool

from thermoscope.errors import InvalidRequest
from thermoscope.server.app import create_app

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.engine.steering import Steering


def serve(
    model: "LanguageModel",
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    aliases: Sequence[str] = (),
    hosts: Sequence[str] = (),
    vectors: "Mapping[str, Steering] | None" = None,
    queue: int | None = None,
    timeout: float = math.inf,
    grace: float = 0.0,
) -> None:
    """Answer until Ctrl-C or SIGTERM. Whoever still waits for an answer then has `grace` seconds to get it.

    - `hosts`: names that requests may address, beside `host`, localhost and any address.
    - `queue`: answers that may wait for a slot. `timeout`: seconds from a request's arrival to its end.

    **Errors:** `InvalidRequest` where the port is taken, or the host is not this machine's.
    """
    listener = open_port(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    model.runner.queue, model.runner.timeout = queue, timeout
    print(f"{model.name} ({model.precision}) answers at {url} (Ctrl-C stops it)", file=sys.stderr, flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # how uvicorn ends after a graceful stop
        Server(model, aliases, (host, *hosts), vectors, grace=grace).run(sockets=[listener])


def open_port(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any free one."""
    if not 0 <= port < 2**16:  # the resolver would take it modulo 65,536
        raise InvalidRequest(f"port: got {port}, expected a whole number, 0 to 65535.", param="port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(
            f"host: got {host!r}, expected an address of this machine ({error}).", param="host"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        # Without this a port stays out of reach for a minute after the server that had it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise InvalidRequest(
            f"port: got {port} on {host}, expected a free one ({error}); choose another.", param="port"
        ) from error
    return listener


class Server(uvicorn.Server):
    """uvicorn, which lets answers end, then stops the engine, then waits for open connections to end."""

    def __init__(
        self,
        model: "LanguageModel",
        aliases: Sequence[str] = (),
        hosts: Sequence[str] = (),
        vectors: "Mapping[str, Steering] | None" = None,
        *,
        grace: float = 0.0,
    ) -> None:
        app = create_app(model, aliases, hosts, vectors)
        super().__init__(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, lifespan="off")
        )
        self._runner = model.runner
        self._grace = grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers end within the grace time, and tell newcomers; then stop the engine, which tells every
        answer that is open still; then the connections. A second Ctrl-C ends the grace time.
        """
        self._runner.close()
        until = time.monotonic() + self._grace
        while not (self._runner.idle or self.force_exit or time.monotonic() > until):
            await asyncio.sleep(0.05)
        self.force_exit = False  # those that are cut short must hear of it
        await run_in_threadpool(self._runner.stop)
        await super().shutdown(sockets)
