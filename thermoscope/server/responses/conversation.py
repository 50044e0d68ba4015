"""Items as the messages of a conversation, which is what a chat template reads."""

from collections.abc import Iterable, Sequence
from typing import Any

from thermoscope.errors import InvalidRequest
from thermoscope.server.responses.items import Item


def messages(items: Iterable[Item], instructions: str | None) -> list[dict[str, Any]]:
    """A chat request's messages: an answer's text and its calls, which are items of their own, in one."""
    conversation: list[dict[str, Any]] = []
    if instructions:
        conversation.append({"role": "system", "content": instructions})
    for item in items:
        match item["type"]:
            case "message":
                texts = [{"type": "text", "text": part["text"]} for part in item["content"]]
                conversation.append({"role": item["role"], "content": texts})
            case "function_call":
                if not conversation or conversation[-1]["role"] != "assistant":
                    conversation.append({"role": "assistant", "content": None})
                call = {
                    "id": item["call_id"],
                    "type": "function",
                    "function": {"name": item["name"], "arguments": item["arguments"]},
                }
                conversation[-1].setdefault("tool_calls", []).append(call)
            case "function_call_output":
                conversation.append(
                    {"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]}
                )
    return conversation


def check_calls(items: Sequence[Item]) -> None:
    """Refuse a function's output without its call, and a call without its output.

    **Errors:** `InvalidRequest`.
    """
    called = {item["call_id"] for item in items if item["type"] == "function_call"}
    answered = {item["call_id"] for item in items if item["type"] == "function_call_output"}
    if answered - called:
        raise InvalidRequest(
            f"input: got a function_call_output with the call_id {min(answered - called)!r}, expected a "
            "function_call with the same one before it; send it along, or name the response that has it as "
            "previous_response_id.",
            param="input",
        )
    if called - answered:
        raise InvalidRequest(
            f"input: got a function_call with the call_id {min(called - answered)!r}, expected a "
            "function_call_output with the same one after it; send what the function gave.",
            param="input",
        )


def without_oldest(items: Sequence[Item], count: int) -> list[Item]:
    """The items but the first `count`, and but the outputs of calls that were among those."""
    kept = items[count:]
    called = {item["call_id"] for item in kept if item["type"] == "function_call"}
    return [item for item in kept if item["type"] != "function_call_output" or item["call_id"] in called]
