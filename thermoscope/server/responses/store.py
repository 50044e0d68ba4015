"""The responses that are kept, to be asked for again and to be continued: the last ones, in memory."""

from dataclasses import dataclass
from functools import cached_property

from thermoscope.errors import InvalidRequest, ResponseNotFound
from thermoscope.server.responses.items import Item, ItemReference, listed
from thermoscope.server.responses.schema import Asked

KEPT = 256
BYTES = 64 * 2**20  # of all of them together, as JSON


@dataclass(frozen=True)
class Kept:
    """A response as JSON; the items that the model read for it, and those that it said."""

    body: bytes
    read: list[Item]
    said: list[Item]

    @cached_property
    def size(self) -> int:
        """Bytes as JSON, nearly."""
        return len(self.body) + sum(len(str(item)) for item in self.read)


class Store:
    """The last `KEPT` responses, or fewer if they are long. For the event loop alone."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}  # in the order in which they came
        self._size = 0

    def keep(self, response: str, kept: Kept) -> None:
        """Keep a response that is complete, and let the oldest go where there are too many."""
        self._kept[response] = kept
        self._size += kept.size
        while len(self._kept) > KEPT or self._size > BYTES:
            self.forget(next(iter(self._kept)))

    def get(self, response: str) -> Kept:
        """The response with that id.

        **Errors:** `ResponseNotFound`.
        """
        if response not in self._kept:
            raise ResponseNotFound(
                f"Response with id {response!r} not found; the last {KEPT} are kept, unless store is false."
            )
        return self._kept[response]

    def forget(self, response: str) -> None:
        """Keep it no longer. What continued it has its items still.

        **Errors:** `ResponseNotFound`.
        """
        self._size -= self.get(response).size
        del self._kept[response]

    def conversation(self, body: Asked) -> list[Item]:
        """What the model is to read: all that the previous response read and said, then the request's own.

        **Errors:** `InvalidRequest`.
        """
        before: list[Item] = []
        if body.previous_response_id is not None:
            try:
                kept = self.get(body.previous_response_id)
            except ResponseNotFound as error:
                raise InvalidRequest(
                    f"previous_response_id: {error}",
                    param="previous_response_id",
                    code="previous_response_not_found",
                ) from error
            before = kept.read + kept.said
        known: dict[str, Item] = {}
        if any(isinstance(item, ItemReference) for item in body.input):
            known = {item["id"]: item for kept in self._kept.values() for item in (*kept.read, *kept.said)}
        return before + listed(body.input, known)
