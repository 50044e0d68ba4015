"""The items of an answer while they come about, and the events that tell of it."""

from collections.abc import Iterator
from typing import Any

from thermoscope.server.responses.items import Item, new_id

Event = dict[str, Any]


class Output:
    """An answer's items. What is said is given piece by piece; every method gives the events of it."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def say(self, text: str, logprobs: list[dict[str, Any]]) -> Iterator[Event]:
        """More text, with its tokens' log-probabilities where they are wanted."""
        if not self._open("message"):
            yield from self.close()
            content: list[Item] = []
            yield self._add(
                {"id": new_id("msg"), "type": "message", "status": "in_progress", "role": "assistant"}
                | {"content": content}
            )
            content.append({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
            yield self._event("response.content_part.added", content_index=0, part=_copy(content[0]))
        if text or logprobs:
            part = self.items[-1]["content"][0]
            part["text"] += text
            part["logprobs"] += logprobs
            yield self._event("response.output_text.delta", content_index=0, delta=text, logprobs=logprobs)

    def call(self, call_id: str, name: str) -> Iterator[Event]:
        """A function is to be called."""
        yield from self.close()
        yield self._add(
            {"id": new_id("fc"), "type": "function_call", "status": "in_progress"}
            | {"call_id": call_id, "name": name, "arguments": ""}
        )

    def argue(self, arguments: str) -> Iterator[Event]:
        """More of the arguments of the call that began last."""
        if arguments:
            self.items[-1]["arguments"] += arguments
            yield self._event("response.function_call_arguments.delta", delta=arguments)

    def close(self, status: str = "completed") -> Iterator[Event]:
        """The item that is still open, if one is, is finished, or cut off: `incomplete`."""
        if self._open("message"):
            part = self.items[-1]["content"][0]
            said = {"text": part["text"], "logprobs": part["logprobs"]}
            yield self._event("response.output_text.done", content_index=0, **said)
            yield self._event("response.content_part.done", content_index=0, part=_copy(part))
        elif self._open("function_call"):
            arguments = self.items[-1]["arguments"]
            yield self._event("response.function_call_arguments.done", arguments=arguments)
        else:
            return
        self.items[-1]["status"] = status
        yield {
            "type": "response.output_item.done",
            "output_index": len(self.items) - 1,
            "item": _copy(self.items[-1]),
        }

    def _open(self, kind: str) -> bool:
        last = self.items[-1] if self.items else None
        return last is not None and last["type"] == kind and last["status"] == "in_progress"

    def _add(self, item: Item) -> Event:
        self.items.append(item)
        added = {"output_index": len(self.items) - 1, "item": _copy(item)}
        return {"type": "response.output_item.added", **added}

    def _event(self, kind: str, **fields: Any) -> Event:
        return {
            "type": kind,
            "item_id": self.items[-1]["id"],
            "output_index": len(self.items) - 1,
            **fields,
        }


def _copy(item: Item) -> Item:
    """The item as it stands now: what comes later must not reach into an event that waits to be sent."""
    return {
        key: [_copy(each) if isinstance(each, dict) else each for each in value]
        if isinstance(value, list)
        else value
        for key, value in item.items()
    }
