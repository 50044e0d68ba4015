"""Server-sent events as they come over the wire, as the JSON objects in them."""

from collections.abc import Iterator
from typing import Any

from thermoscope.upstream.failure import parsed, refused

END = b"[DONE]"


class Events:
    """Takes bytes, cut anywhere, and gives each event's object; `ended` once `[DONE]` came.

    Comments, which keep a connection awake, are left out. Lines end where the bytes say so: JSON may hold
    every other separator that Unicode has.
    """

    def __init__(self, url: str) -> None:
        self.ended = False
        self._url = url
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """The objects that this piece completes.

        **Errors:** `UpstreamFailed` for an event that is an error, or no object.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in (each.removesuffix(b"\r") for each in lines):
            if line.startswith(b"data:"):
                self._data.append(line.removeprefix(b"data:").removeprefix(b" "))
            elif not line and self._data:
                whole, self._data = b"\n".join(self._data), []
                if whole == END:
                    self.ended = True
                    return
                yield self._object(whole)

    def _object(self, data: bytes) -> dict[str, Any]:
        plain = parsed(data, self._url)
        if plain.get("error"):
            raise refused(502, data)
        return plain
