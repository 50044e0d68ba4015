"""The engine's answers to texts in the words that OpenAI's clients know."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from thermoscope.engine.request import Request
from thermoscope.engine.trace import FinishReason, Step, Trace
from thermoscope.server import envelope
from thermoscope.server.completions.legacy import Entry, legacy, of_prompt, of_steps
from thermoscope.server.completions.schema import CompletionRequest

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.engine.scores import Score
    from thermoscope.engine.sequence import Delta


class Wording:
    """How one request's answers are put into words. Choice number c answers prompt number c // n."""

    def __init__(self, body: CompletionRequest, requests: Sequence[Request], model: "LanguageModel") -> None:
        self._body = body
        self._n = body.n or 1
        self._prompts = [request.prompt for request in requests]
        self._tokenizer = model.tokenizer
        self._head = envelope.head("text_completion", "cmpl", body.model, model)
        self._said: dict[int, int] = {}  # characters of each choice whose tokens are out

    def completion(
        self, traces: Sequence[Trace], scored: "Sequence[Sequence[Score]] | None" = None
    ) -> dict[str, Any]:
        """The whole answer. `scored`: the prompts' tokens, where echo and logprobs show them."""
        choices = []
        for index, trace in enumerate(traces):
            steps = [] if self._body.max_tokens == 0 else trace.steps
            prompt = scored[index // self._n] if scored else ()
            choices.append(
                self._choice(
                    index,
                    self._echo(index) + (trace.text if steps else ""),
                    [*of_prompt(self._tokenizer, prompt), *self._entries(steps)],
                    steps,
                    trace.finish_reason if steps else "length",
                )
            )
        return {**self._head, "choices": choices, "usage": self._usage(traces)}

    def opening(self, scored: "Sequence[Sequence[Score]] | None" = None) -> Iterator[dict[str, Any]]:
        """The pieces that echo the prompts, one for each choice."""
        for index in range(self._n * len(self._prompts)):
            prompt = of_prompt(self._tokenizer, scored[index // self._n] if scored else ())
            yield self._chunk([self._choice(index, self._echo(index), list(prompt))])

    def spoken(self, delta: "Delta") -> Iterator[dict[str, Any]]:
        """The piece that a delta brings, with its token, if there is something to send."""
        if self._body.max_tokens == 0:
            yield self._chunk([self._choice(delta.choice, "", [], [], "length")])
            return
        shown = self._body.logprobs is not None or self._body.with_steps
        if delta.text or shown or delta.finish_reason:
            entries = list(self._entries([delta.step]))
            yield self._chunk(
                [self._choice(delta.choice, delta.text, entries, [delta.step], delta.finish_reason)]
            )

    def usage_chunk(self, traces: Sequence[Trace]) -> dict[str, Any]:
        """The last piece, which counts tokens and belongs to no choice."""
        return self._chunk([]) | {"usage": self._usage(traces)}

    def _choice(
        self,
        index: int,
        text: str,
        entries: Sequence[Entry],
        steps: Sequence[Step] = (),
        finish_reason: FinishReason | None = None,
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "text": text, "logprobs": None}
        if self._body.logprobs is not None:
            start = self._said.get(index, 0)
            choice["logprobs"] = legacy(self._tokenizer, entries, start)
            self._said[index] = start + sum(entry.length for entry in entries)
        if self._body.with_steps:
            choice["thermoscope"] = {"steps": [step.to_dict() for step in steps]}
        return choice | {"finish_reason": finish_reason}

    def _entries(self, steps: Iterable[Step]) -> Iterator[Entry]:
        if self._body.logprobs is None:
            return iter(())
        count = self._body.all_alternatives
        return of_steps(steps, self._body.logprobs if count is None else count)

    def _echo(self, index: int) -> str:
        if not self._body.echo:
            return ""
        said = self._body.prompt[index // self._n]
        return said if isinstance(said, str) else self._tokenizer.decode(said)

    def _usage(self, traces: Sequence[Trace]) -> dict[str, Any]:
        drawn = 0 if self._body.max_tokens == 0 else sum(len(trace.steps) for trace in traces)
        return envelope.usage(sum(map(len, self._prompts)), drawn, traces)

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "choices": choices, **({"usage": None} if self._body.with_usage else {})}
