"""Bring a server before another one up on a port."""

import asyncio
import contextlib
import socket
import sys
import time
from dataclasses import replace

import uvicorn
from starlette.concurrency import run_in_threadpool

from thermoscope.server import logs
from thermoscope.server.options import DEFAULTS, Options
from thermoscope.server.serve import configuration, open_port
from thermoscope.server.upstream.app import create_app
from thermoscope.upstream.upstream import Upstream


def serve(
    upstream: Upstream, *, host: str = "127.0.0.1", port: int = 8000, options: Options = DEFAULTS
) -> None:
    """Answer until Ctrl-C or SIGTERM, from what another server says; what was found of it is printed.

    Whoever waits for an answer then has `options.grace` seconds to get it.
    `options.hosts` are names that requests may address beside `host`, localhost and any address.

    **Errors:** `InvalidRequest` where the port is taken, or the host is not this machine's.
    """
    listener = open_port(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    server = Server(upstream, replace(options, hosts=(host, *(options.hosts or ()))))
    print(upstream.abilities.summary(), file=sys.stderr)
    print(f"{upstream.connection.url} answers at {url} (Ctrl-C stops it)", file=sys.stderr, flush=True)
    logs.start(options.log)
    with contextlib.suppress(KeyboardInterrupt):  # how uvicorn ends after a graceful stop
        server.run(sockets=[listener])


class Server(uvicorn.Server):
    """uvicorn, which lets answers end, then cuts those that are open, then waits for the connections."""

    def __init__(self, upstream: Upstream, options: Options) -> None:
        app = create_app(upstream, options)
        super().__init__(configuration(app, grace=5))
        self._service = app.state.service
        self._grace = options.grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell newcomers; after the grace time tell who waits still. A second Ctrl-C ends the grace time."""
        self._service.closed = True
        until = time.monotonic() + self._grace
        while self._service.open and not self.force_exit and time.monotonic() < until:
            await asyncio.sleep(0.05)
        self.force_exit = False  # those that are cut short must hear of it
        self._service.stop()
        await super().shutdown(sockets)
        await run_in_threadpool(self._service.traces.close)
