"""The addresses of traces."""

from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi import Path as PathValue
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from thermoscope.server.traces.store import Traces

Choice = Annotated[int, PathValue(ge=0, lt=2**31)]
ROOT = "/v1/traces"
MOST = 100
Limit = Annotated[int, Query(ge=1, le=MOST, description="How many at most.")]
After = Annotated[str | None, Query(description="A trace's id: those that are older than it.")]


def install(app: FastAPI, traces: Traces) -> None:
    """Have the app show the traces that are kept."""

    @app.get(ROOT)
    async def list_traces(limit: Limit = 20, after: After = None) -> dict[str, Any]:
        """The newest traces first, a line each."""
        return {"object": "list", "data": await run_in_threadpool(traces.newest, limit, after)}

    @app.get(ROOT + "/{trace}")
    async def trace(trace: str) -> Response:
        """A trace with all its answers and their every step."""

        def whole() -> Response:
            return JSONResponse(traces.describe(trace) | {"choices": traces.get(trace)})

        return await run_in_threadpool(whole)

    @app.get(ROOT + "/{trace}/{choice}")
    async def answer(trace: str, choice: Choice) -> Response:
        """One answer of a trace, in the form that `Trace.load` and `thermoscope reasoning --trace` read."""
        return await run_in_threadpool(lambda: JSONResponse(traces.get(trace, choice)[0]))
