"""Bring a server before another one up on a port."""

import contextlib
import math
import sys
from dataclasses import replace

import uvicorn

from thermoscope.server import logs
from thermoscope.server.options import DEFAULTS, Options
from thermoscope.server.serve import configuration, open_port
from thermoscope.server.upstream.app import create_app
from thermoscope.upstream.upstream import Upstream


def serve(
    upstream: Upstream, *, host: str = "127.0.0.1", port: int = 8000, options: Options = DEFAULTS
) -> None:
    """Answer until Ctrl-C or SIGTERM, from what another server says; what was found of it is printed.

    `options.hosts` are names that requests may address beside `host`, localhost and any address.

    **Errors:** `InvalidRequest` where the port is taken, or the host is not this machine's.
    """
    listener = open_port(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    app = create_app(upstream, replace(options, hosts=(host, *(options.hosts or ()))))
    print(upstream.abilities.summary(), file=sys.stderr)
    print(f"{upstream.connection.url} answers at {url} (Ctrl-C stops it)", file=sys.stderr, flush=True)
    logs.start(options.log)
    with contextlib.suppress(KeyboardInterrupt):  # how uvicorn ends after a graceful stop
        uvicorn.Server(configuration(app, grace=math.ceil(options.grace))).run(sockets=[listener])
    app.state.traces.close()
