"""What every app of this server has around its addresses: who may ask, what is logged, how it fails."""

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from thermoscope import __version__
from thermoscope.server import errors
from thermoscope.server.body import StrictRoute
from thermoscope.server.fields import ErrorBody
from thermoscope.server.hosts import Hosts
from thermoscope.server.keys import Keys
from thermoscope.server.middleware import Exchange
from thermoscope.server.options import Options


def frame(options: Options, summary: str) -> FastAPI:
    """An app without addresses. `summary`: what it is, for its documentation."""
    app: FastAPI = FastAPIOffline(
        title="Thermoscope",
        summary=summary,
        version=__version__,
        responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}},
    )
    app.router.route_class = StrictRoute
    # A middleware that is added later sees a request earlier.
    if options.keys:
        app.add_middleware(Keys, keys=options.keys)
    if options.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "openai-processing-ms"],
        )
    if options.hosts is not None:
        app.add_middleware(Hosts, names=options.hosts)
    app.add_middleware(Exchange)
    errors.install(app)
    return app
