"""Bring a model up on a port, and take it down again."""

import asyncio
import contextlib
import gc
import socket
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from thermoscope.errors import InvalidRequest
from thermoscope.server import logs
from thermoscope.server.app import create_app
from thermoscope.server.connection import Connection
from thermoscope.server.options import DEFAULTS, Options

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel


def serve(
    model: "LanguageModel",
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    options: Options = DEFAULTS,
) -> None:
    """Answer until Ctrl-C or SIGTERM; whoever waits for an answer then has `options.grace` seconds to get it.

    `options.hosts` are names that requests may address beside `host`, localhost and any address.

    **Errors:** `InvalidRequest` where the port is taken, or the host is not this machine's.
    """
    listener = open_port(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    model.runner.queue, model.runner.timeout = options.queue, options.timeout
    print(f"{model.name} ({model.precision}) answers at {url} (Ctrl-C stops it)", file=sys.stderr, flush=True)
    logs.start(options.log)
    server = Server(model, replace(options, hosts=(host, *(options.hosts or ()))))
    # What is here now stays: to look through it for garbage would take a tenth of a second, again and again.
    gc.collect()
    gc.freeze()
    with contextlib.suppress(KeyboardInterrupt):  # how uvicorn ends after a graceful stop
        server.run(sockets=[listener])


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


def configuration(app: FastAPI, *, grace: int) -> uvicorn.Config:
    """How uvicorn runs every server of ours: what it logs, we do; `grace`: seconds for connections to end."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=grace,
        lifespan="off",
    )


class Server(uvicorn.Server):
    """uvicorn, which lets answers end, then stops the engine, then waits for open connections to end."""

    def __init__(self, model: "LanguageModel", options: Options) -> None:
        app = create_app(model, options)
        super().__init__(configuration(app, grace=5))
        self._runner = model.runner
        self._grace = options.grace
        self._traces = app.state.traces

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
        await run_in_threadpool(self._traces.close)
