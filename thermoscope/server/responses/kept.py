"""The addresses of the responses that are kept, whoever answered."""

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from thermoscope.errors import InvalidRequest, ResponseNotFound
from thermoscope.server.responses.items import Item
from thermoscope.server.responses.store import Store

ROOT = "/v1/responses"


def install(app: FastAPI, store: Store) -> None:
    """Have the app show what it keeps, and forget it."""

    @app.post(ROOT + "/compact", include_in_schema=False)
    async def compact() -> None:
        """OpenAI's compaction is an encrypted item that only its own service can read."""
        raise ResponseNotFound("compact: not offered here; send fewer items, or truncation: auto.")

    @app.get(ROOT + "/{response}")
    async def retrieve(response: str, exchange: Request) -> Response:
        """A response that is kept."""
        _no_other(exchange, {"stream": "false"})
        return Response(store.get(response).body, media_type="application/json")

    @app.delete(ROOT + "/{response}")
    async def delete(response: str) -> dict[str, Any]:
        """Keep a response no longer."""
        store.forget(response)
        return {"id": response, "object": "response", "deleted": True}

    @app.get(ROOT + "/{response}/input_items")
    async def input_items(
        response: str,
        exchange: Request,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> dict[str, Any]:
        """What the model read for a response, item by item."""
        _no_other(exchange, {"limit": None, "order": None, "after": None})
        items = store.get(response).read
        return _page(items if order == "asc" else items[::-1], limit, after)

    @app.post(ROOT + "/{response}/cancel")
    async def cancel(response: str) -> None:
        """Only responses in the background can be called off, and there are none here."""
        store.get(response)
        raise InvalidRequest(
            "cancel: only a response with background: true can be cancelled, and this server makes none; "
            "close the connection while it is answered."
        )


def _no_other(exchange: Request, known: dict[str, str | None]) -> None:
    """Refuse what an address does not read: `known` has its parameters, with the one value that is taken."""
    for name, value in exchange.query_params.multi_items():
        if name not in known or known[name] not in (None, value):
            raise InvalidRequest(
                f"{name}: got {value!r}, but this address knows nothing of it; leave it out.", param=name
            )


def _page(items: list[Item], limit: int, after: str | None) -> dict[str, Any]:
    start = 0
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequest(
                f"after: got {after!r}, expected the id of an item of this response.", param="after"
            )
        start = ids.index(after) + 1
    page = items[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + limit < len(items),
    }
