"""Where a reading is taken: the model, and the handle for progress and cancelling."""

import math
import queue
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import numpy as np
from jaxtyping import Float

from thermoscope.errors import InvalidRequest, ReadingCancelled
from thermoscope.instruments.shape.reading import Check

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel, Reply
    from thermoscope.engine.replay import Keep, Replay
    from thermoscope.engine.request import Request
    from thermoscope.engine.sequence import Delta
    from thermoscope.engine.trace import Trace
    from thermoscope.models.intervention import Intervention
    from thermoscope.models.model import Model
    from thermoscope.upstream.upstream import Upstream

Item = TypeVar("Item")
NATIVE_TIE = 1e-9  # nats; the native step gives a row the same bits in any company, and sums differ by an ulp
TIE, LOOSE_TIE = {"fp32": 1e-4}, 0.05  # nats that two ways through a library's products may lie apart

PATIENCE = 0.1  # seconds between two looks whether a reading that waits for the engine was called off


class Progress(NamedTuple):
    """How far a reading is: `done` of `total` pieces of what it does now."""

    what: str
    done: int
    total: int


class Lab:
    """One reading's access to the machine. Whatever takes long goes through it, a piece at a time.

    - `load`: gives the model, when an instrument first asks for it. `watch`: told of every progress.
    - `background`: a server's, which lets requests of other people go first.

    `upstream` is another server, where that is looked at instead of a model here.
    """

    def __init__(
        self,
        load: "Callable[[], LanguageModel]",
        *,
        watch: Callable[[Progress], None] | None = None,
        background: bool = False,
    ) -> None:
        self.upstream: Upstream | None = None
        self._load = load
        self._model: LanguageModel | None = None
        self._packing: Model | None = None
        self._watch = watch
        self.background = background
        self._cancelled = threading.Event()

    @classmethod
    def of(cls, machine: "LanguageModel | Upstream", *, watch: Callable[[Progress], None]) -> Self:
        """A server's, for the model that it has loaded or for the other server that it stands before."""
        from thermoscope.upstream.upstream import Upstream

        if not isinstance(machine, Upstream):
            return cls(lambda: machine, watch=watch, background=True)
        lab = cls(_nowhere, watch=watch, background=True)
        lab.upstream = machine
        return lab

    @property
    def model(self) -> "LanguageModel":
        """The model that is looked at."""
        if self._model is None:
            self._model = self._load()
            self._packing = self._model.model
        return self._model

    @property
    def settled(self) -> bool:
        """Whether the model is in the packing that it was in at first; see `engine.upgrade`."""
        return self._model is None or self._model.model is self._packing

    @property
    def loaded(self) -> "LanguageModel | None":
        """The model, if this reading used one."""
        return self._model

    @property
    def seen(self) -> dict[str, str] | None:
        """What a reading that was taken here says of the model; None if it used none."""
        if self.upstream is not None:
            return {"name": self.upstream.name, "precision": f"upstream at {self.upstream.connection.url}"}
        model = self._model
        return None if model is None else {"name": model.name, "precision": model.precision}

    @property
    def cancelled(self) -> bool:
        """Whether the reading was called off."""
        return self._cancelled.is_set()

    @property
    def tie(self) -> float:
        """Nats that the log-probabilities of two ways through the model may lie apart."""
        if self.model.model.native:
            return NATIVE_TIE
        return TIE.get(self.model.precision, LOOSE_TIE)

    def tie_of_sets(self, temperature: float) -> float:
        """The same for the probability of a set of tokens at T.

        Where every log p moves by at most d, a set's log-odds at T move by at most 2d/T, and so its
        probability by at most tanh(d / 2T).
        """
        if self.model.model.native or temperature == 0:
            return NATIVE_TIE
        return max(NATIVE_TIE, math.tanh(self.tie / (2 * temperature)))

    def cancel(self) -> None:
        """End the reading at its next piece, from any thread."""
        self._cancelled.set()

    def progress(self, what: str, done: int, total: int) -> None:
        """Say how far the reading is.

        **Errors:** `ReadingCancelled` after `cancel`.
        """
        self._check_cancelled()
        if self._watch is not None:
            self._watch(Progress(what, done, total))

    def track(self, what: str, items: Iterable[Item], total: int | None = None) -> Iterator[Item]:
        """The items, one after another, with progress."""
        count = total if total is not None else len(items) if isinstance(items, Sized) else 0
        done = 0
        for done, item in enumerate(items):
            self.progress(what, done, count)
            yield item
        self.progress(what, count or done + 1, count or done + 1)

    def tokens(self, prompt: str, *, chat: bool = False) -> tuple[int, ...]:
        """A prompt's token ids: plain text, or what a user says in a chat.

        **Errors:** `InvalidRequest` for a prompt without tokens, or one that fills the context.
        """
        tokenizer = self.model.tokenizer
        said = [{"role": "user", "content": prompt}]
        tokens = tokenizer.chat(said) if chat else tokenizer.prompt(prompt)
        if not tokens:
            raise InvalidRequest("prompt: got no tokens, expected some text.", param="prompt")
        self._check_room(tokens, "prompt")
        return tuple(tokens)

    def replay(
        self,
        tokens: Sequence[int],
        *,
        keep: "Keep" = (),
        layers: Collection[int] | None = None,
        first: int = 0,
        interventions: "Sequence[Intervention]" = (),
        param: str = "text",
    ) -> "Replay":
        """One teacher-forced pass over the tokens, keeping the quantities asked for.

        `first`: index of the first token behind which log-probabilities count.

        `param`: as in `logits`.
        """
        from thermoscope.engine.replay import chunks, joined

        self._check_room(tokens, param)
        how = {"keep": keep, "layers": layers, "first": first, "interventions": interventions}
        parts = list(self.pieces(lambda model: chunks(model, tokens, **how), len(tokens)))  # type: ignore[arg-type]
        return joined(tokens, parts, interventions)

    def logits(
        self, tokens: Sequence[int], *, first: int = 0, param: str = "text"
    ) -> Iterator[Float[np.ndarray, "vocab"]]:
        """The logits after each token from index `first` on; only a chunk of them is in memory.

        `param`: the setting that the tokens are from, for the error where they fill the context.
        """
        from thermoscope.engine.replay import chunks

        self._check_room(tokens, param)
        look = lambda model: chunks(model, tokens, logits=True, first=first)  # noqa: E731
        for part in self.pieces(look, len(tokens)):
            assert part.logits is not None
            yield from part.logits.numpy()

    def pieces(
        self, look: "Callable[[Model], Iterator[Item]]", tokens: int, what: str = "reading"
    ) -> Iterator[Item]:
        """What a look at the model gives, a piece for each chunk of this many tokens.

        Each piece is one call on the engine's thread, so that others' tokens come between.
        """
        from thermoscope.engine.scheduler import PREFILL_CHUNK

        runner, done = self.model.runner, 0
        going = runner.call(lambda: look(runner.engine.model))
        self.progress(what, 0, tokens)
        while (piece := runner.call(lambda: next(going, None), background=self.background)) is not None:
            yield piece
            done += PREFILL_CHUNK
            self.progress(what, min(done, tokens), tokens)

    def call(self, work: "Callable[[Model], Item]") -> Item:
        """One piece of work on the engine's thread; others' tokens come before and after it."""
        self._check_cancelled()
        runner = self.model.runner
        return runner.call(lambda: work(runner.engine.model), background=self.background)

    def last(self, tokens: Sequence[int], *, param: str = "text") -> Float[np.ndarray, "vocab"]:
        """The logits after the last token, in float64."""
        (row,) = self.logits(tokens, first=len(tokens) - 1, param=param)
        return row.astype(np.float64)

    def names(self, logits: Float[np.ndarray, "vocab"], count: int) -> dict[int, str]:
        """The best tokens' ids and texts, best first."""
        from thermoscope.laws import truncation

        piece = self.model.tokenizer.piece
        return {int(token): piece(int(token)) for token in truncation.top_k(logits, count).ids}

    def replayed(self, traces: "Sequence[Trace]") -> Check:
        """Whether a second look at finished answers sees what the engine recorded while it spoke."""
        residuals = []
        for trace in self.track("checking", traces):
            tokens, first = (*trace.prompt, *trace.tokens), len(trace.prompt) - 1
            residuals.append(self.replay(tokens, first=first, param="prompt").logprob_residual(trace))
        how = "largest |log p of the replay − log p recorded at the step|, over all tokens of the answers"
        return Check("replay = record", how, max(residuals), self.tie)

    def generate(self, prompt: Sequence[int], samplings: Sequence[Mapping[str, Any]]) -> "list[Reply]":
        """A reply of the engine itself for each of the settings, which are the fields of `Sampling`.

        All are under way at once; an answer does not depend on its company.
        """
        from thermoscope.engine.language_model import Reply
        from thermoscope.engine.request import Request, Sampling

        requests = [
            Request(prompt=tuple(prompt), sampling=Sampling(**each), background=self.background)
            for each in samplings
        ]
        total = sum(each.sampling.n * (each.sampling.max_tokens or self.model.context) for each in requests)
        traces: list[list[Trace]] = [[] for _ in requests]
        with closing(self._deltas(requests)) as deltas:  # at once: an error may keep the generator alive
            for index, delta in self.track("speaking", deltas, total):
                if delta.trace is not None:
                    traces[index].append(delta.trace)
        return [Reply(sorted(each, key=lambda trace: trace.choice)) for each in traces]

    def _deltas(self, requests: "Sequence[Request]") -> "Generator[tuple[int, Delta], None, None]":
        """Which request, and what came of it, in the order of its coming."""
        arrived: queue.SimpleQueue[tuple[int, Delta | Exception]] = queue.SimpleQueue()

        def deliver(index: int) -> "Callable[[Delta | Exception], None]":
            return lambda item: arrived.put((index, item))

        tickets = []
        try:
            for index, request in enumerate(requests):
                tickets.append(self.model.runner.submit(request, deliver(index)))
            left = sum(request.sampling.n for request in requests)
            while left:
                try:
                    index, item = arrived.get(timeout=PATIENCE)
                except queue.Empty:  # others go first
                    self._check_cancelled()
                    continue
                if isinstance(item, Exception):
                    raise item
                left -= item.finish_reason is not None
                yield index, item
        finally:
            for ticket in tickets:
                ticket.cancel()

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise ReadingCancelled("reading: it was cancelled.")

    def _check_room(self, tokens: Sequence[int], param: str) -> None:
        if len(tokens) > self.model.context:
            raise InvalidRequest(
                f"{param}: got {len(tokens)} tokens, expected at most {self.model.context}, the context.",
                param=param,
            )


def _nowhere() -> "LanguageModel":
    raise InvalidRequest("model: none is loaded here, expected one; start the server without --upstream.")
