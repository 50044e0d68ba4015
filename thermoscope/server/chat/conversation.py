"""A request's messages as chat templates read them: calls with their arguments as objects, results beside."""

import json
from collections.abc import Sequence
from typing import Any

from thermoscope.errors import InvalidRequest
from thermoscope.server.chat.schema import Message
from thermoscope.server.tools.schema import FunctionCall


def conversation(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages in the one form that templates know.

    A call or a result in the words of before tools (`function_call`, the role `function`) becomes one of
    today's.

    **Errors:** `InvalidRequest` for a message that lacks what its role needs, or has what it cannot have, for
    arguments that are no JSON object, and for a result of no call.
    """
    plain: list[dict[str, Any]] = []
    called: dict[str, str] = {}  # names by id
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        _check(message, where)
        written: dict[str, Any] = {"role": message.role, "content": message.text}
        match message.role:
            case "developer":
                written["role"] = "system"
            case "assistant":
                calls = [
                    (call.id, call.function, f"{where}.tool_calls[{place}].function")
                    for place, call in enumerate(message.tool_calls or ())
                ]
                if message.function_call is not None:
                    calls.append((f"call_{at}", message.function_call, f"{where}.function_call"))
                called |= {identifier: function.name for identifier, function, _ in calls}
                if calls:
                    written["tool_calls"] = [_call(*each) for each in calls]
            case "tool" | "function":
                written |= _answered(message, called, where)
        plain.append(written)
    return plain


def _check(message: Message, where: str) -> None:
    """Refuse what a message of this role cannot be without, or cannot have."""
    calls = bool(message.tool_calls) or message.function_call is not None
    if message.content is None and not calls and message.role != "function":
        raise InvalidRequest(
            f"{where}.content: got null, expected a text or a list of text parts.", param=f"{where}.content"
        )
    for field, roles in (
        ("tool_calls", ("assistant",)), ("function_call", ("assistant",)), ("tool_call_id", ("tool",)),
    ):  # fmt: skip
        if getattr(message, field) and message.role not in roles:
            raise InvalidRequest(
                f"{where}.{field}: got one in a message of the role {message.role}, expected it only in "
                f"{roles[0]} messages; leave it out.",
                param=f"{where}.{field}",
            )
    for field, role in (("tool_call_id", "tool"), ("name", "function")):
        if message.role == role and getattr(message, field) is None:
            raise InvalidRequest(
                f"{where}.{field}: missing, and a message of the role {role} needs it.",
                param=f"{where}.{field}",
            )


def _call(identifier: str, function: FunctionCall, where: str) -> dict[str, Any]:
    try:
        arguments = json.loads(function.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequest(
            f"{where}.arguments: got {function.arguments[:100]!r}, expected the text of a JSON object.",
            param=f"{where}.arguments",
        )
    return {
        "id": identifier,
        "type": "function",
        "function": {"name": function.name, "arguments": arguments},
    }


def _answered(message: Message, called: dict[str, str], where: str) -> dict[str, Any]:
    """Which call a result answers: the one with its id, or the last of its function."""
    if message.role == "tool":
        identifier, field = str(message.tool_call_id), "tool_call_id"
    else:
        those = [identifier for identifier, name in called.items() if name == message.name]
        identifier, field = those[-1] if those else "", "name"
    if identifier not in called:
        raise InvalidRequest(
            f"{where}.{field}: got {getattr(message, field)!r}, expected that of a call in a message before; "
            "send the assistant's message with its tool_calls along.",
            param=f"{where}.{field}",
        )
    return {"role": "tool", "tool_call_id": identifier, "name": called[identifier]}
