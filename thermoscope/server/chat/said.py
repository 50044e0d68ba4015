"""What an answer said and what it called, in the words of a conversation: a message, or pieces of one."""

from typing import Any

from thermoscope.engine.trace import FinishReason
from thermoscope.models.calls import CallFormat
from thermoscope.server.tools.reader import (
    Arguments,
    Call,
    CallBegins,
    CallReader,
    Content,
    Piece,
    TextReader,
    gather,
)


class Said:
    """One choice's answer, read as it comes.

    `form`: how the model writes calls; None where nothing was offered, so that all is text. `before_tools`:
    whether a call is told in the words of before tools.
    """

    def __init__(self, form: CallFormat | None, *, before_tools: bool) -> None:
        self._reader = TextReader() if form is None else CallReader(form)
        self._may_call = form is not None
        self._before_tools = before_tools

    @property
    def begun(self) -> dict[str, Any]:
        """The first piece. Where there may be calls, there may be no text."""
        return {"role": "assistant", "content": None if self._may_call else ""}

    @property
    def nothing(self) -> dict[str, Any]:
        """A piece for a token that shows nothing yet."""
        return {} if self._may_call else {"content": ""}

    def push(self, text: str, *, last: bool) -> list[dict[str, Any]]:
        """More of the answer, in pieces. A call's id and name stand in its first alone."""
        return [self._piece(piece) for piece in self._reader.push(text, last=last)]

    def message(self, text: str) -> dict[str, Any]:
        """The whole answer."""
        said, calls = gather(self._reader.push(text, last=True))
        message = {"role": "assistant", "content": said or None if calls else said, "refusal": None}
        if not calls:
            return message
        if self._before_tools:
            return message | {"function_call": _function(calls[0])}
        return message | {
            "tool_calls": [{"id": call.id, "type": "function", "function": _function(call)} for call in calls]
        }

    def reason(self, ended: FinishReason | None) -> str | None:
        """Why it ended: with calls, if it was not cut and has some."""
        if ended != "stop" or not self._reader.complete:
            return ended
        return "function_call" if self._before_tools else "tool_calls"

    def _piece(self, piece: Piece) -> dict[str, Any]:
        match piece:
            case Content():
                return {"content": piece.text}
            case CallBegins():
                function = {"name": piece.name, "arguments": ""}
                head: dict[str, Any] = {"id": piece.id, "type": "function"}
            case Arguments():
                function, head = {"arguments": piece.text}, {}
        if self._before_tools:
            return {"function_call": function}
        return {"tool_calls": [{"index": piece.index, **head, "function": function}]}


def _function(call: Call) -> dict[str, str]:
    return {"name": call.name, "arguments": call.arguments}
