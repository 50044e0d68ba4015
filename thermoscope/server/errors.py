"""Every failure in OpenAI's form: {"error": {"message", "type", "param", "code"}}.

Bad input is 400 and never 422 or 409: old clients have no name for the first, and try again for ever
on the second.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from thermoscope.errors import (
    EngineStopped,
    InstrumentNotFound,
    InvalidRequest,
    ModelNotFound,
    ReadingCancelled,
    ResponseNotFound,
    ThermoscopeError,
    TimedOut,
    TooBusy,
    TraceNotFound,
    UpstreamFailed,
)
from thermoscope.instruments.shape.settings import explain

logger = logging.getLogger(__name__)

UNEXPECTED = "Something unexpected failed here; the server's log has the details. Try again."
LONGEST = 1000  # characters of a message: a client's own megabyte comes back to it as its two ends
# What the engine calls a field, and an address does not. Responses reword their errors themselves.
BEYOND = {name: f"thermoscope.{name}" for name in ("stop_ids", "dry_breakers", "ignore_eos")}
WORDS = {
    "/v1/chat/completions": BEYOND,
    "/v1/completions": BEYOND | {"messages": "prompt"},
    "/v1/embeddings": {"messages": "input"},
    "/v1/responses": BEYOND,
}
CLIENT_CLOSED_REQUEST = 499  # nginx's number for an answer that nobody waits for


class ClientGoneError(Exception):
    """The client closed the connection before its answer was complete."""


def describe(error: Exception) -> tuple[int, dict[str, Any]]:
    """The HTTP status of an error, and its body."""
    match error:
        case RequestValidationError():
            return 400, _body(*_explain(error.errors()[0]))
        case InvalidRequest():
            return 400, _body(str(error), error.param, error.code)
        case ModelNotFound():
            return 404, _body(str(error), "model", "model_not_found")
        case InstrumentNotFound() | ResponseNotFound() | TraceNotFound():
            return 404, _body(str(error), code="not_found")
        case TooBusy():
            return 429, _body(str(error), code="too_busy", kind="rate_limit_error")
        case TimedOut():
            return 408, _body(str(error), code="timeout", kind="timeout_error")
        case HTTPException():
            code = "invalid_api_key" if error.status_code == 401 else None
            return error.status_code, _body(str(error.detail), code=code)
        case EngineStopped():
            return 503, _body(str(error), code="engine_stopped", kind="server_error")
        case ClientGoneError() | ClientDisconnect():
            return CLIENT_CLOSED_REQUEST, _body("The client closed the connection.")
        case ReadingCancelled():
            return CLIENT_CLOSED_REQUEST, _body(str(error), code="cancelled")
        case UpstreamFailed():
            return error.status, _body(str(error), error.param, error.code, kind=error.kind)
        case ThermoscopeError():
            return 500, _body(str(error), kind="server_error")
        case _:
            logger.error("unexpected error while answering", exc_info=error)
            return 500, _body(UNEXPECTED, kind="server_error")


def respond(error: Exception) -> JSONResponse:
    """An error as a response."""
    status, body = describe(error)
    headers = getattr(error, "headers", None)
    if isinstance(error, TooBusy):
        headers = {"retry-after": str(error.retry_after)}
    elif isinstance(error, TimedOut):
        headers = {"x-should-retry": "false"}  # clients ask again after a 408, and would wait as long in vain
    elif isinstance(error, UpstreamFailed) and error.retry_after is not None:
        headers = {"retry-after": error.retry_after}
    return JSONResponse(body, status, headers)


def install(app: FastAPI) -> None:
    """Have the app answer every failure in this form; unexpected ones end in the middleware."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException) and error.status_code in (404, 405):
            where = f"{request.method} {request.url.path}"
            reason = "no such address" if error.status_code == 404 else "not a method of this address"
            error = HTTPException(error.status_code, f"{where}: {reason}; /docs lists them.", error.headers)
        return respond(_in_own_words(error, request.url.path) if isinstance(error, InvalidRequest) else error)

    for kind in (RequestValidationError, HTTPException, ThermoscopeError, ClientGoneError):
        app.add_exception_handler(kind, handle)


def _in_own_words(error: InvalidRequest, path: str) -> InvalidRequest:
    """The same about the field as the address calls it."""
    own = WORDS.get(path, {}).get(error.param or "")
    if own is None:
        return error
    message = re.sub(f"^{error.param}: ", f"{own}: ", str(error))
    return InvalidRequest(message, param=own, code=error.code)


def _body(
    message: str, param: str | None = None, code: str | None = None, *, kind: str = "invalid_request_error"
) -> dict[str, Any]:
    return {
        "error": {
            "message": _printable(message),
            "type": kind,
            "param": param and _printable(param),
            "code": code,
        }
    }


def _explain(problem: Mapping[str, Any]) -> tuple[str, str | None]:
    """One line about what pydantic refused, and the field's name."""
    if problem["type"] == "json_invalid":
        return (
            f"body: got broken JSON ({problem['ctx']['error']} at {problem['loc'][-1]}), expected an object.",
            None,
        )
    location = problem["loc"][1:]
    if not location and problem["type"] == "string_unicode":
        return "body: got a field's name with half a surrogate pair, expected names in Unicode.", None
    if not location:
        return "body: expected a JSON object, with the header Content-Type: application/json.", None
    return explain(problem, location)


def _printable(text: str) -> str:
    """The text at a length that a log can hold, half a surrogate pair, which UTF-8 cannot, as its escape."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-(LONGEST // 2) :]}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
