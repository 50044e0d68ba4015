"""Where a reading is taken: the model, and the handle for progress and cancelling."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, closing
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from thermoscope.errors import InvalidRequest, ReadingCancelled
from thermoscope.instruments.shape.reading import Check

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel, Reply
    from thermoscope.engine.replay import Quantity, Replay
    from thermoscope.engine.sequence import Delta
    from thermoscope.engine.trace import Trace

Item = TypeVar("Item")
TIE, LOOSE_TIE = {"fp32": 1e-4}, 0.05  # nats that two ways through a library's products may lie apart


class Progress(NamedTuple):
    """How far a reading is: `done` of `total` pieces of what it does now."""

    what: str
    done: int
    total: int


class Lab:
    """One reading's access to the machine. Whatever takes long goes through it, a piece at a time.

    - `load`: gives the model, when an instrument first asks for it. `watch`: told of every progress.
    - `background`: let requests of other people go first.
    """

    def __init__(
        self,
        load: "Callable[[], LanguageModel]",
        *,
        watch: Callable[[Progress], None] | None = None,
        background: bool = False,
    ) -> None:
        self._load = load
        self._model: LanguageModel | None = None
        self._watch = watch
        self._background = background
        self._cancelled = threading.Event()

    @property
    def model(self) -> "LanguageModel":
        """The model that is looked at."""
        if self._model is None:
            self._model = self._load()
        return self._model

    @property
    def loaded(self) -> "LanguageModel | None":
        """The model, if this reading used one."""
        return self._model

    def cancel(self) -> None:
        """End the reading at its next piece, from any thread."""
        self._cancelled.set()

    def progress(self, what: str, done: int, total: int) -> None:
        """Say how far the reading is.

        **Errors:** `ReadingCancelled` after `cancel`.
        """
        if self._cancelled.is_set():
            raise ReadingCancelled("reading: it was cancelled.")
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
        keep: "Collection[Quantity]" = (),
        layers: Collection[int] | None = None,
    ) -> "Replay":
        """One teacher-forced pass over the tokens, keeping the quantities asked for."""
        from thermoscope.engine.replay import joined

        self._check_room(tokens, "text")
        return joined(tokens, list(self._chunks(tokens, keep=keep, layers=layers)))

    def logits(self, tokens: Sequence[int]) -> Iterator[Float[np.ndarray, "vocab"]]:
        """The logits after each token, one row after another; only a chunk of them is in memory."""
        self._check_room(tokens, "text")
        for chunk in self._chunks(tokens, logits=True):
            yield from chunk.logits.numpy()

    def last(self, tokens: Sequence[int]) -> Float[np.ndarray, "vocab"]:
        """The logits after the last token, in float64."""
        *_, row = self.logits(tokens)
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
            residuals.append(self.replay((*trace.prompt, *trace.tokens)).logprob_residual(trace))
        tolerance = TIE.get(self.model.precision, LOOSE_TIE)
        how = "largest |log p of the replay − log p recorded at the step|, over all tokens of the answers"
        return Check("replay = record", how, max(residuals), tolerance)

    def generate(self, prompt: Sequence[int], samplings: Sequence[Mapping[str, Any]]) -> "list[Reply]":
        """A reply of the engine itself for each of the settings, which are the fields of `Sampling`.

        All are under way at once; an answer does not depend on its company.
        """
        from thermoscope.engine.language_model import Reply

        total = sum(sampling.get("n", 1) * sampling["max_tokens"] for sampling in samplings)
        traces: list[list[Trace]] = [[] for _ in samplings]
        for index, delta in self.track("speaking", self._deltas(prompt, samplings), total):
            if delta.trace is not None:
                traces[index].append(delta.trace)
        return [Reply(sorted(each, key=lambda trace: trace.choice)) for each in traces]

    def _deltas(
        self, prompt: Sequence[int], samplings: Sequence[Mapping[str, Any]]
    ) -> "Iterator[tuple[int, Delta]]":
        with ExitStack() as stack:
            streams = [
                stack.enter_context(closing(self.model.stream(prompt, background=self._background, **each)))
                for each in samplings
            ]
            started = [next(stream) for stream in streams]  # the first delta submits
            for index, (first, stream) in enumerate(zip(started, streams, strict=True)):
                for delta in chain([first], stream):
                    yield index, delta

    def _chunks(self, tokens: Sequence[int], **kept: Any) -> Iterator[Any]:
        """Each chunk is one call on the engine's thread, so that others' tokens come between."""
        from thermoscope.engine.replay import chunks

        runner = self.model.runner
        going = runner.call(lambda: chunks(runner.engine.model, tokens, **kept))
        done = 0
        while True:
            self.progress("reading", done, len(tokens))
            chunk = runner.call(lambda: next(going, None))
            if chunk is None:
                return
            done += chunk.count
            yield chunk

    def _check_room(self, tokens: Sequence[int], param: str) -> None:
        if len(tokens) >= self.model.context:
            raise InvalidRequest(
                f"{param}: got {len(tokens)} tokens, expected fewer than {self.model.context}, the context.",
                param=param,
            )
