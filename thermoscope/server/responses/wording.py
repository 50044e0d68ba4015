"""The engine's answer as a response, which OpenAI's clients know."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from thermoscope.engine.request import Request
from thermoscope.engine.trace import Step, Trace
from thermoscope.server.logprobs import logprobs
from thermoscope.server.responses.output import Event
from thermoscope.server.responses.schema import ResponsesRequest
from thermoscope.server.responses.telling import Telling
from thermoscope.server.tools.reader import (
    Arguments,
    CallBegins,
    CallReader,
    Content,
    Piece,
    TextReader,
)

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.engine.sequence import Delta


class Wording(Telling):
    """One request's response, told of the engine's deltas."""

    def __init__(
        self, body: ResponsesRequest, request: Request, model: "LanguageModel", tag: dict[str, Any]
    ) -> None:
        super().__init__(body, tag)
        self._tokenizer = model.tokenizer
        self._prompt_tokens = len(request.prompt)
        self._cached_tokens = 0
        self._reader = CallReader(self._tokenizer.call_format) if body.with_calls else TextReader()
        self._called = False
        self._steps: list[Step] = []
        self._unsaid: list[Step] = []  # the last of them, which no text has come of yet

    def spoken(self, delta: "Delta") -> Iterator[Event]:
        """The events that a delta brings."""
        return self._say(delta.text, delta.step)

    def _say(self, text: str, step: Step) -> Iterator[Event]:
        self._steps.append(step)
        self._unsaid.append(step)
        yield from self._tell(self._told(self._reader.push(text)))

    def end(self, trace: Trace, seen: dict[str, Any]) -> Iterator[Event]:
        """The answer is complete, or was cut off at its limit. `seen`: what stands beside it."""
        self._cached_tokens = trace.cached_tokens
        self._beside(seen)
        yield from self._tell(self._told(self._reader.push("", last=True)))
        if not self._called:  # the tokens that brought no text of their own; and an answer of no words is one
            yield from self._tell(self._output.say("", self._logprobs()))
        yield from self._close("max_output_tokens" if trace.finish_reason == "length" else None)

    def whole(self, trace: Trace, seen: dict[str, Any]) -> None:
        """The answer at once; nobody listens to how it came about."""
        shown = len(trace.text)  # a stop string, and what came after it, are cut from the end
        for step in trace.steps:
            deque(self._say(step.text[:shown], step), maxlen=0)
            shown -= len(step.text[:shown])
        deque(self.end(trace, seen), maxlen=0)

    def usage(self) -> dict[str, Any]:
        """Tokens read and drawn until now."""
        return {
            "input_tokens": self._prompt_tokens,
            "input_tokens_details": {"cached_tokens": self._cached_tokens, "cache_write_tokens": 0},
            "output_tokens": len(self._steps),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self._prompt_tokens + len(self._steps),
        }

    def steps(self) -> list[dict[str, Any]]:
        """What was seen of each token until now."""
        return [step.to_dict() for step in self._steps]

    def _told(self, pieces: Iterable[Piece]) -> Iterator[Event]:
        """The events of what was read. Tokens belong to the text behind them, those of a call to none."""
        for piece in pieces:
            match piece:
                case Content():
                    yield from self._output.say(piece.text, self._logprobs())
                case CallBegins():
                    self._called = True
                    yield from self._output.call(piece.id, piece.name)
                case Arguments():
                    yield from self._output.argue(piece.text)
            self._unsaid.clear()

    def _logprobs(self) -> list[dict[str, Any]]:
        """As a completion has them, but that a token without bytes has an empty list of them."""
        if not self._body.with_logprobs:
            return []
        best = self._body.all_alternatives or self._body.top_logprobs or 0
        items = logprobs(self._unsaid, self._tokenizer, best)
        for token in (each for one in items for each in (one, *one["top_logprobs"])):
            token["bytes"] = token["bytes"] or []
        return items
