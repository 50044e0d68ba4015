"""One answer in the making: where it stands in the cache, what was said, and when it ends."""

import time
from dataclasses import asdict, dataclass, field

from thermoscope.engine.guide import Guide
from thermoscope.engine.request import Request
from thermoscope.engine.sampler import Sampler
from thermoscope.engine.text import TextStream
from thermoscope.engine.trace import FinishReason, Record, Step, Trace
from thermoscope.models.cache import Span
from thermoscope.models.intervention import fingerprint
from thermoscope.models.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Delta:
    """What one step added to one answer.

    `text`: characters that may be shown now; empty while they are held back. `entropy` of the model's own
    distribution and tokens `kept` by truncation, as in a record, where the step has none too. The last delta
    of an answer has a `finish_reason` and the whole `trace`.
    """

    choice: int
    text: str
    step: Step
    finish_reason: FinishReason | None = None
    trace: Trace | None = None
    entropy: float = field(kw_only=True)
    kept: int = field(kw_only=True)


class Sequence:
    """One of a request's n answers. `slot` is None until the scheduler gives it one."""

    def __init__(
        self, request: Request, *, choice: int, seed: int, limit: int, trace: Trace, guide: Guide | None
    ) -> None:
        self.request = request
        self.guide = guide
        self.choice = choice
        self.slot: int | None = None
        self.arrival = 0  # order among all answers, set when it is queued
        self.filled = 0  # tokens whose keys and values stand in the cache
        self.tokens = list(request.prompt)
        self.trace = trace
        self.sampler = Sampler(
            request.sampling,
            seed=seed,
            choice=choice,
            prompt=request.prompt,
            alternatives=request.alternatives,
        )
        self._limit = limit
        self._text = TextStream(request.sampling.stop)
        self._since = time.perf_counter()

    @classmethod
    def of(
        cls,
        request: Request,
        *,
        choice: int,
        seed: int,
        limit: int,
        model: str,
        precision: str,
        guide: Guide | None = None,
    ) -> "Sequence":
        """The request's answer number `choice`, with an empty trace; `limit` tokens at most."""
        sampling = asdict(request.sampling) | {"seed": seed, "max_tokens": limit}
        sampling["logit_bias"] = {str(token): bias for token, bias in request.sampling.logit_bias.items()}
        for name in ("stop", "stop_ids", "dry_breakers"):
            sampling[name] = list(sampling[name])
        trace = Trace(
            model=model,
            precision=precision,
            prompt=request.prompt,
            sampling=sampling,
            choice=choice,
            steered=fingerprint(request.steer),
            grammar=None if request.grammar is None else request.grammar.to_dict(),
        )
        return cls(request, choice=choice, seed=seed, limit=limit, trace=trace, guide=guide)

    @property
    def pending(self) -> int:
        """Tokens known but not yet in the cache: the rest of the prompt, or the token drawn last."""
        return len(self.tokens) - self.filled

    def reuse(self, count: int) -> None:
        """Have the first `count` tokens in the cache, of which what is new there was not computed."""
        if count > self.filled:
            self.trace.cached_tokens += count - self.filled
            self.filled = count

    def span(self, at_most: int) -> Span:
        """The next tokens to run through the model."""
        assert self.slot is not None
        return Span(self.slot, self.filled, min(self.pending, at_most))

    def accept(self, token: int, record: Record | None, tokenizer: Tokenizer, *, entropy: float) -> Delta:
        """Add a drawn token; the delta says whether the answer ends with it. `entropy`: of the model's own
        distribution.
        """
        sampling = self.request.sampling
        now = time.perf_counter()
        if not self.trace.steps:
            self.trace.prefill_ms = (now - self._since) * 1e3
        ended = token in sampling.stop_ids or (token in tokenizer.end_ids and not sampling.ignore_eos)
        data = b"" if ended else self._shown(token, tokenizer)
        if self.guide is not None and not ended:
            self.guide.accept(token)
            ended = self.guide.complete
        full = len(self.trace.steps) + 1 >= self._limit
        shown = self._text.push(data, last=ended or full)
        step = Step(token, shown.piece, data, round((now - self._since) * 1e3, 4), record)
        self._since = now
        self.tokens.append(token)
        self.trace.steps.append(step)
        self.trace.text += shown.text
        reason: FinishReason | None = "stop" if ended or shown.stopped else "length" if full else None
        self.trace.finish_reason = reason
        return Delta(
            self.choice,
            shown.text,
            step,
            reason,
            self.trace if reason else None,
            entropy=entropy,
            kept=self.sampler.kept,
        )

    def _shown(self, token: int, tokenizer: Tokenizer) -> bytes:
        """What a token adds to the text."""
        if token in self.request.shown:
            return tokenizer.piece(token).encode()
        return tokenizer.bytes_of(token)
