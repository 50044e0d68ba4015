"""A request's JSON, read strictly: what two readers could take for two things is refused."""

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from thermoscope.errors import InvalidRequest


class StrictRoute(APIRoute):
    """FastAPI's route, with `parse` in place of a reader that takes the last of two equal keys."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:  # noqa: D102
        answer = super().get_route_handler()
        reads_json = self.body_field is not None

        async def strictly(request: Request) -> Response:
            encoding = request.headers.get("content-encoding", "identity")
            if encoding.lower() != "identity":
                raise HTTPException(415, f"content-encoding: got {encoding!r}, expected none.")
            strict = _Strict(request.scope, request.receive)
            if reads_json and is_json(request.headers.get("content-type", "")):
                await strict.json()  # here, where its refusal is heard; FastAPI finds the value kept
            return await answer(strict)

        return strictly


class _Strict(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_parsed"):
            self._parsed = parse(await self.body())
        return self._parsed


def is_json(content_type: str) -> bool:
    """Whether a Content-Type header names JSON: application/json, or such as application/problem+json."""
    kind, _, subtype = content_type.partition(";")[0].strip().lower().partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def parse(data: bytes) -> Any:
    """The value that a body's JSON holds.

    **Errors:** `InvalidRequest` for what is no JSON, for a number that JSON or a float lacks, for a key that
    an object has twice, and for nesting beyond what Python's reader follows (about a thousand deep).
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise InvalidRequest("body: got JSON that is nested too deeply, expected an object.") from None
    except ValueError as error:  # Unicode's is of this kind
        if "integer string conversion" in str(error):  # Python's bound, with Python's advice
            error = ValueError("a number of more than 4,300 digits")
        raise InvalidRequest(f"body: got broken JSON ({error}), expected an object.") from None


def parse_object(data: bytes) -> dict[str, Any]:
    """`parse`, for a body that has to be an object."""
    plain = parse(data)
    if not isinstance(plain, dict):
        raise InvalidRequest(
            f"body: got JSON of the type {type(plain).__name__}, expected an object with the settings."
        )
    return plain


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose every key is there once: of two the last would win in silence."""
    plain: dict[str, Any] = {}
    for key, value in pairs:
        if key in plain:
            raise InvalidRequest(f"body: got {key!r} twice in one object, expected it once.", param=key)
        plain[key] = value
    return plain


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(number: str) -> float:
    """A number that can be written as it was read: a larger one would be infinite, which JSON lacks."""
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number[:40]} is larger than any number here")
    return value
