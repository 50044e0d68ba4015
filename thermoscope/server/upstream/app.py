"""The addresses of a server that stands before another one."""

from typing import Any

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline

from thermoscope import __version__
from thermoscope.server import errors, instruments
from thermoscope.server.fields import ErrorBody
from thermoscope.server.hosts import Hosts
from thermoscope.server.jobs import Jobs
from thermoscope.server.middleware import Exchange
from thermoscope.server.options import DEFAULTS, Options
from thermoscope.server.upstream import route
from thermoscope.server.upstream.service import Service
from thermoscope.upstream.upstream import Upstream


def create_app(upstream: Upstream, options: Options = DEFAULTS) -> FastAPI:
    """The server of a model that another server runs."""
    service = Service(upstream, options.aliases)
    app: FastAPI = FastAPIOffline(
        title="Thermoscope",
        summary="Another server behind the OpenAI API, every token's step in sight as far as it shows it.",
        version=__version__,
        responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}},
    )
    if options.hosts is not None:
        app.add_middleware(Hosts, names=options.hosts)
    app.add_middleware(Exchange)  # added last, so that it sees a request first
    errors.install(app)
    route.install(app, service)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The model, under each of its names."""
        return {"object": "list", "data": [service.card(name) for name in service.names]}

    @app.get("/v1/models/{name:path}")
    async def model_card(name: str) -> dict[str, Any]:
        """One name of the model."""
        return service.card(service.known(name))

    app.state.jobs = Jobs(upstream)
    instruments.install(app, app.state.jobs)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """That the server stands, and what was found of the one behind it."""
        return service.health()

    @app.get("/", include_in_schema=False)
    async def page() -> RedirectResponse:
        return RedirectResponse("/docs")  # the page draws values, and here many are bounds

    return app
