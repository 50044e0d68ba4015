"""The addresses of a server that stands before another one."""

from typing import Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, RedirectResponse, Response

from thermoscope.server import instruments, names
from thermoscope.server.frame import frame
from thermoscope.server.jobs import Jobs
from thermoscope.server.metrics import CONTENT_TYPE
from thermoscope.server.options import DEFAULTS, Options
from thermoscope.server.traces import route as traces
from thermoscope.server.upstream import responses, route
from thermoscope.server.upstream.service import Service
from thermoscope.upstream.upstream import Upstream


def create_app(upstream: Upstream, options: Options = DEFAULTS) -> FastAPI:
    """The server of a model that another server runs."""
    service = Service(upstream, options)
    app = frame(
        options, "Another server's model behind the OpenAI API, its steps in sight as far as it shows them."
    )
    route.install(app, service)
    responses.install(app, service)
    traces.install(app, service.traces)
    app.state.service = service
    names.install(app, service)
    app.state.jobs = Jobs(upstream)
    instruments.install(app, app.state.jobs)

    @app.get("/health")
    async def health(response: Response) -> dict[str, Any]:
        """That the server stands, and what was found of the one behind it; 503 while it is stopping."""
        response.status_code = 503 if service.closed else 200
        return service.health()

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """What was counted, for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/", include_in_schema=False)
    async def page() -> RedirectResponse:
        return RedirectResponse("/docs")  # the page draws values, and here many are bounds

    return app
