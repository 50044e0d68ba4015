"""How a model writes the call of a function, and how a conversation with calls is put before it.

A chat template that knows tools shows the form itself: it is given a conversation with a call, and what it
writes is compared with the forms known here. A model whose template knows no tools, or writes a form that is
not known, is told in the system message what it may call and in which form (`HERMES`, which most models
have met).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from thermoscope.errors import InvalidRequest
from thermoscope.models.chat_template import ChatTemplate

Message = Mapping[str, Any]


@dataclass(frozen=True)
class CallFormat:
    """The texts around a call's name and its arguments, which are a JSON object.

    An answer with two calls is `opening first NAME middle ARGUMENTS tail again NAME middle ARGUMENTS tail
    closing`. `opening` is what tells a call from text. `again` is None where the model writes only one call.
    `marks`: texts that are control tokens of many models. `leads`: a call is one only at the very start of an
    answer. `id_length`: of the ids that the template takes, letters and digits alone; None for any.
    """

    opening: str
    first: str
    middle: str
    tail: str
    again: str | None
    closing: str = ""
    marks: tuple[str, ...] = ()
    leads: bool = False
    id_length: int | None = None

    def begun(self, name: str, arguments: str) -> str:
        """The text of a first call, up to its arguments."""
        return f"{self.opening}{self.first}{name}{self.middle}{arguments}"

    def text(self, calls: Sequence[Mapping[str, Any]]) -> str:
        """Calls as the model would have written them."""
        heads = [self.opening + self.first, *[self.again or self.opening + self.first] * (len(calls) - 1)]
        written = [
            f"{head}{call['function']['name']}{self.middle}{_json(call['function']['arguments'])}{self.tail}"
            for head, call in zip(heads, calls, strict=True)
        ]
        return "".join(written) + self.closing


HERMES = CallFormat(
    opening="<tool_call>",
    first='\n{"name": "',
    middle='", "arguments": ',
    tail="}\n</tool_call>",
    again='\n<tool_call>\n{"name": "',
    marks=("<tool_call>", "</tool_call>"),
)
LLAMA3 = CallFormat(
    opening='{"name": "', first="", middle='", "parameters": ', tail="}", again=None, leads=True
)
MISTRAL = CallFormat(
    opening="[TOOL_CALLS]",
    first='[{"name": "',
    middle='", "arguments": ',
    tail="}",
    again=', {"name": "',
    closing="]",
    marks=("[TOOL_CALLS]",),
    id_length=9,
)
MISTRAL_SPACED = replace(MISTRAL, first=' [{"name": "')  # before its tokenizer of 2024
MISTRAL_NAMED = CallFormat(  # since 2025
    opening="[TOOL_CALLS]",
    first="",
    middle="[ARGS]",
    tail="",
    again="[TOOL_CALLS]",
    marks=("[TOOL_CALLS]", "[ARGS]"),
    id_length=9,
)
FORMATS = (HERMES, LLAMA3, MISTRAL, MISTRAL_SPACED, MISTRAL_NAMED)

_PROBE = "probe7a"  # a name that no template contains; also an id of the length that Mistral's ask for
_TOOLS: list[Message] = [
    {
        "type": "function",
        "function": {
            "name": _PROBE,
            "description": f"{_PROBE} described",
            "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
        },
    }
]
_CALLED: list[Message] = [
    {"role": "user", "content": "?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "probe7a00", "type": "function", "function": {"name": _PROBE, "arguments": {"x": 1}}}
        ],
    },
    {"role": "tool", "content": "1", "tool_call_id": "probe7a00", "name": _PROBE},
]


def format_of(template: ChatTemplate) -> CallFormat | None:
    """The form that a template writes calls in; None where it knows no tools, or none of the known forms."""
    try:
        shown = template.render(_CALLED, tools=_TOOLS)
    except InvalidRequest:
        return None
    if f"{_PROBE} described" not in shown:
        return None
    return next((form for form in FORMATS if form.begun(_PROBE, '{"x": 1}') in shown), None)


def render(
    template: ChatTemplate,
    form: CallFormat | None,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
) -> str:
    """A conversation with functions as the template writes it. `form`: what `format_of` found."""
    if form is None:
        return template.render(as_text(messages, tools))
    if form.id_length is not None:
        messages = [_with_ids(message, form.id_length) for message in messages]
    # Some templates take an empty list for a list of tools, so there is none where there are no tools.
    return template.render(messages, tools=list(tools)) if tools else template.render(messages)


def as_text(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Messages for a template that knows no tools: the functions told in the system message, calls and their
    results written out.
    """
    plain: list[Message] = []
    for message in messages:
        if message["role"] != "tool":
            calls = message.get("tool_calls", ())
            parts = [message["content"], *([HERMES.text(calls)] if calls else [])]
            plain.append({"role": message["role"], "content": "\n".join(part for part in parts if part)})
            continue
        result = f"<tool_response>\n{message['content']}\n</tool_response>"
        if plain and plain[-1]["role"] == "user" and plain[-1]["content"].endswith("</tool_response>"):
            plain[-1] = {"role": "user", "content": f"{plain[-1]['content']}\n{result}"}
        else:
            plain.append({"role": "user", "content": result})
    if not tools:
        return plain
    told = _ours(tools)
    if plain and plain[0]["role"] == "system":
        return [{"role": "system", "content": f"{plain[0]['content']}\n\n{told}"}, *plain[1:]]
    return [{"role": "system", "content": told}, *plain]


def _ours(tools: Sequence[Mapping[str, Any]]) -> str:
    listed = "\n".join(_json(tool["function"]) for tool in tools)
    return (
        "You can call functions to help the user. These are their signatures:\n"
        f"<tools>\n{listed}\n</tools>\n"
        "To call a function, answer with its name and its arguments as JSON, in these tags:\n"
        '<tool_call>\n{"name": "the function", "arguments": {"argument": "value"}}\n</tool_call>'
    )


def _with_ids(message: Message, length: int) -> Message:
    changed = dict(message)
    if "tool_call_id" in changed:
        changed["tool_call_id"] = _short(changed["tool_call_id"], length)
    if "tool_calls" in changed:
        changed["tool_calls"] = [{**call, "id": _short(call["id"], length)} for call in changed["tool_calls"]]
    return changed


def _short(identifier: str, length: int) -> str:
    """An id of this length: itself if it is one, or else one that is always the same for it."""
    if len(identifier) == length and identifier.isalnum() and identifier.isascii():
        return identifier
    return hashlib.sha256(identifier.encode()).hexdigest()[:length]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
