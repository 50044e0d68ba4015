"""The engine's answer to a conversation in the words that OpenAI's clients know."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from thermoscope.engine.request import Request
from thermoscope.engine.trace import Step, Trace
from thermoscope.server import envelope
from thermoscope.server.chat.said import Said
from thermoscope.server.chat.schema import ChatRequest
from thermoscope.server.logprobs import logprobs
from thermoscope.server.stream import Mould, events

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.engine.sequence import Delta


class Wording:
    """How one request's answers are put into words that OpenAI's clients know."""

    def __init__(self, body: ChatRequest, request: Request, model: "LanguageModel") -> None:
        self._body = body
        self._tokenizer = model.tokenizer
        self._prompt_tokens = len(request.prompt)
        self._head = envelope.head("chat.completion", "chatcmpl", body.model, model)
        self._choices = [self.said() for _ in range(request.sampling.n)]
        self._moulds: dict[int, Mould] = {}  # of each choice, where its tokens bring nothing but text

    def said(self) -> Said:
        """What one choice's answer is read with."""
        form = None if self._body.offer is None else self._tokenizer.call_format
        return Said(form, before_tools=bool(self._body.functions))

    def completion(self, traces: Sequence[Trace]) -> dict[str, Any]:
        """The whole answer."""
        choices = [
            {
                "index": trace.choice,
                "message": (said := self.said()).message(trace.text),
                **self._of_steps(trace.steps),
                "finish_reason": said.reason(trace.finish_reason),
            }
            for trace in traces
        ]
        return {**self._head, "choices": choices, "usage": self.usage(traces)}

    def begun(self) -> Iterator[dict[str, Any]]:
        """The first pieces, one for each choice."""
        for index, said in enumerate(self._choices):
            yield self._piece(index, said.begun)

    def spoken(self, delta: "Delta") -> Iterator[dict[str, Any]]:
        """The pieces that a delta brings; the token stands with the first."""
        said, ended = self._choices[delta.choice], delta.finish_reason
        pieces = said.push(delta.text, last=ended is not None)
        if not pieces and (self._body.logprobs or self._body.with_steps):
            pieces = [said.nothing]
        for at, piece in enumerate(pieces):
            yield self._piece(delta.choice, piece, step=None if at else delta.step)
        if ended is not None:
            yield self._piece(delta.choice, {}, finish_reason=said.reason(ended))

    def piece(self, of_all: dict[str, Any]) -> dict[str, Any]:
        """A piece that belongs to no choice."""
        return self._chunk([]) | of_all

    def usage_chunk(self, traces: Sequence[Trace]) -> dict[str, Any]:
        """The last piece, which counts tokens."""
        return self.piece({"usage": self.usage(traces)})

    def usage(self, traces: Sequence[Trace]) -> dict[str, Any]:
        """Tokens read and drawn."""
        return envelope.usage(self._prompt_tokens, sum(len(trace.steps) for trace in traces), traces)

    def beside(self, seen: dict[str, Any]) -> dict[str, Any]:
        """What a response says beside its choices."""
        return {"thermoscope": seen} if seen else {}

    def events(self, delta: "Delta", tag: dict[str, Any]) -> Iterable[bytes]:
        """The same as it goes over the wire, in the midst of an answer. `tag`: what each says beside."""
        if self._body.offer is not None or self._body.logprobs or self._body.with_steps:
            return events(self.spoken(delta), tag)
        if not delta.text:
            return ()
        if delta.choice not in self._moulds:
            self._moulds[delta.choice] = Mould(
                lambda text: envelope.joined(self._piece(delta.choice, {"content": text}), tag)
            )
        return (self._moulds[delta.choice].event(delta.text),)

    def _piece(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        step: Step | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        seen = {"logprobs": None} if step is None else self._of_steps([step])
        return self._chunk([{"index": index, "delta": delta, **seen, "finish_reason": finish_reason}])

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        usage = {"usage": None} if self._body.with_usage else {}
        return {**self._head, "object": "chat.completion.chunk", "choices": choices, **usage}

    def _of_steps(self, steps: Sequence[Step]) -> dict[str, Any]:
        fields: dict[str, Any] = {"logprobs": None}
        if self._body.logprobs:
            best = self._body.all_alternatives or self._body.top_logprobs or 0
            fields["logprobs"] = {"content": logprobs(steps, self._tokenizer, best), "refusal": None}
        if self._body.with_steps:
            fields["thermoscope"] = {"steps": [step.to_dict() for step in steps]}
        return fields
