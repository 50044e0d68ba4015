"""A second look at a finished sequence: one teacher-forced pass, keeping only what was asked for.

The pass uses the decoder's own arithmetic at prefill speed, so what it shows is what spoke; the residual
that every reading prints says how exactly (`Replay.logprob_residual`).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from thermoscope.engine.scheduler import PREFILL_CHUNK
from thermoscope.engine.trace import Trace
from thermoscope.errors import ContextExceeded, InvalidRequest
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.distribution import log_z
from thermoscope.models.intervention import Intervention, Overwrite, check, fingerprint
from thermoscope.models.model import Model
from thermoscope.models.probe import Probe

Quantity = Literal["residual", "q", "k", "v", "attention", "head_out", "attention_out", "mlp_out"]
Keep = Collection[Quantity] | Mapping[Quantity, Collection[int] | None]
See = Callable[[Quantity, int, int, Tensor], None]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)


@dataclass(frozen=True)
class Replay:
    """What one pass over `tokens` kept.

    - `logits`: [tokens − first, vocab] float32, the distribution after each token from index `first` on; None
      unless asked for.
    - `logprobs`: [tokens − 1 − first] float64, log-probability of each token behind index `first`, given all
      before it.
    - `kept`: (quantity, layer) -> tensor, rows being tokens. `residual` is the stream before a layer, and
      at layer number `layers` before the final norm. `q` is [tokens, heads, dim], `k` and `v`
      [tokens, kv, dim], `attention` [heads, tokens, tokens] with zeros above the diagonal; `head_out` is
      [tokens, heads, dim], the values that each head mixed.
    - `changed`: the fingerprint of what was changed on the way; None where nothing was.
    """

    tokens: tuple[int, ...]
    logprobs: Float[Tensor, "given"]
    logits: Float[Tensor, "some vocab"] | None
    kept: dict[tuple[Quantity, int], Tensor] = field(default_factory=dict)
    changed: str | None = None

    def logprob_residual(self, trace: Trace) -> float:
        """Largest difference between the trace's recorded log-probabilities and the replay's, in nats.

        **Errors:** `InvalidRequest` if the trace is of other tokens, was steered otherwise than the replay,
        kept no records, or more than the replay has log-probabilities.
        """
        if (*trace.prompt, *trace.tokens) != self.tokens:
            raise InvalidRequest("trace: got other tokens than those replayed, expected the same.")
        if trace.steered != self.changed:
            was, here = (
                f"with {each}" if each else "without a vector" for each in (trace.steered, self.changed)
            )
            raise InvalidRequest(
                f"trace: got one that was steered {was}, and a replay {here}; expected the same vectors in "
                "both, so give the replay the interventions that spoke.",
                param="trace",
            )
        records = [step.record for step in trace.steps]
        if not records or any(record is None for record in records):
            raise InvalidRequest("trace: got steps without records; generate it with records on.")
        if len(records) > len(self.logprobs):
            raise InvalidRequest(
                f"first: got log-probabilities of {len(self.logprobs)} tokens, expected those of all "
                f"{len(records)} that the trace drew; replay with first={len(trace.prompt) - 1} or less.",
                param="first",
            )
        spoken = torch.tensor(
            [record.logprob for record in records if record is not None], dtype=torch.float64
        )
        return float((self.logprobs[-len(records) :] - spoken).abs().max())


@dataclass(frozen=True)
class Chunk:
    """What the pass gave for some consecutive tokens; the fields as in `Replay`.

    `start` is the first one's index. `logprobs` and `logits` are of what follows those from index `first` on:
    none where all stand before that, and of the last token no log-probability.
    """

    start: int
    logprobs: Float[Tensor, "given"]
    logits: Float[Tensor, "some vocab"] | None
    kept: dict[tuple[Quantity, int], Tensor]


@dataclass
class Place:
    """Where a pass stands: it runs in slot `slot` of the cache, from index `start` on."""

    cache: KVCache
    slot: int = 0
    start: int = 0


def replay(
    model: Model,
    tokens: Sequence[int],
    *,
    keep: Keep = (),
    layers: Collection[int] | None = None,
    logits: bool = False,
    first: int = 0,
    interventions: Sequence[Intervention] = (),
) -> Replay:
    """Run a sequence through the model once.

    - `keep`: which quantities to return. `layers`: of which layers, None being all; `residual` also takes
      the number of layers, for the stream before the final norm. A mapping gives each its own layers.
    - `logits`: whether to keep every position's logits (4 bytes for each token and vocabulary entry).
    - `first`: index of the first token behind which distributions count; those before it take no time for
      the head, and the number of tokens asks for none.
    - `interventions`: what is changed on the way (`models.intervention`), in the same arithmetic.

    **Errors:** `InvalidRequest` for an unknown quantity, a layer or a position out of range, or an empty
    sequence; `ContextExceeded` for one longer than the model's context.
    """
    parts = chunks(
        model, tokens, keep=keep, layers=layers, logits=logits, first=first, interventions=interventions
    )
    return joined(tokens, list(parts), interventions)


def chunks(
    model: Model,
    tokens: Sequence[int],
    *,
    keep: Keep = (),
    layers: Collection[int] | None = None,
    logits: bool = False,
    first: int = 0,
    interventions: Sequence[Intervention] = (),
    see: See | None = None,
    place: Place | None = None,
) -> Iterator[Chunk]:
    """`replay` a piece at a time, so that something else can be done between two; errors come at once.

    - `see`: takes each quantity as it comes, and then none is kept: its name, layer, the index of the chunk's
      first token, and the rows; attention's are [heads, rows, tokens so far]. So of all attention only a few
      rows of one layer are in memory.
    - `place`: the cache to run in, and from which token on; None is from the first, in a new one.
    """
    each = keep if isinstance(keep, Mapping) else dict.fromkeys(keep, layers)
    wanted = {name: set(range(_last(model, name) + 1) if of is None else of) for name, of in each.items()}
    _check(model, tokens, wanted, first)
    check(interventions, len(tokens), model.config)
    place = place or Place(model.cache(slots=1, context=len(tokens)))
    return _chunks(model, tokens, wanted, logits, first, interventions, see, place)


@torch.inference_mode()
def _chunks(
    model: Model,
    tokens: Sequence[int],
    wanted: dict[Quantity, set[int]],
    logits: bool,
    first: int,
    interventions: Sequence[Intervention],
    see: See | None,
    place: Place,
) -> Iterator[Chunk]:
    kept: dict[tuple[Quantity, int], Tensor] = {}

    def look(name: str, layer: int, value: Tensor) -> None:
        quantity: Quantity = name  # type: ignore[assignment]
        rows = value[0].flatten(0, 1) if quantity == "attention" else value
        if see:
            see(quantity, layer, place.start, rows)
        else:
            kept[quantity, layer] = rows

    places = {(name, layer) for name, layers in wanted.items() for layer in layers}
    probe = Probe(look, lambda name, layer: (name, layer) in places) if places else None
    for start, hidden in _hidden(model, tokens, place, probe, interventions):
        count, skipped = len(hidden), min(max(0, first - start), len(hidden))
        scores = torch.empty(0, model.config.vocab)
        if skipped < count:  # a product has no form for no rows
            scores = model.decoder.logits(hidden[skipped:])
        following = torch.tensor(tokens[start + skipped + 1 : start + count + 1], dtype=torch.long)
        given = scores[: len(following)]
        chosen = given.gather(1, following[:, None])[:, 0].double()
        yield Chunk(start, chosen - log_z(given), scores if logits else None, dict(kept))


def _hidden(
    model: Model,
    tokens: Sequence[int],
    place: Place,
    probe: Probe | None = None,
    interventions: Sequence[Intervention] = (),
) -> Iterator[tuple[int, Float[Tensor, "chunk hidden"]]]:
    """Each chunk's start, and its rows after the last layer."""
    changed = {place.slot: interventions} if interventions else None
    overwrites = [each for each in interventions if isinstance(each, Overwrite)]
    while place.start < len(tokens):
        for each in overwrites:
            if each.until == place.start:
                where = torch.tensor([*each.positions])
                slots = torch.full_like(where, place.slot)
                place.cache.write(each.layer, place.cache.places(slots, where), each.keys, each.values)
        cuts = [each.until for each in overwrites if each.until > place.start]
        chunk = tokens[place.start : min([place.start + PREFILL_CHUNK, *cuts])]
        span = Span(place.slot, place.start, len(chunk))
        yield place.start, model.decoder.forward(chunk, [span], place.cache, probe, changed)
        place.start += len(chunk)


def joined(
    tokens: Sequence[int], parts: Sequence[Chunk], interventions: Sequence[Intervention] = ()
) -> Replay:
    """The chunks of a whole pass as one, made with these interventions."""
    every = [part.logits for part in parts if part.logits is not None]
    return Replay(
        tokens=tuple(tokens),
        logprobs=torch.cat([part.logprobs for part in parts]),
        logits=torch.cat(every) if every else None,
        kept={
            place: _joined(place[0], [part.kept[place] for part in parts], len(tokens))
            for place in parts[0].kept
        },
        changed=fingerprint(interventions),
    )


def _joined(quantity: Quantity, chunks: list[Tensor], tokens: int) -> Tensor:
    """Chunks of rows -> one tensor; attention's chunks saw fewer columns the earlier they came."""
    if quantity != "attention":
        return torch.cat(chunks)
    padded = [torch.nn.functional.pad(chunk, (0, tokens - chunk.shape[-1])) for chunk in chunks]
    return torch.cat(padded, dim=1)


def _last(model: Model, quantity: str) -> int:
    """The last layer that has it: of the stream, what stands before the final norm."""
    return model.config.layers if quantity == "residual" else model.config.layers - 1


def _check(model: Model, tokens: Sequence[int], keep: Mapping[Quantity, set[int]], first: int) -> None:
    if unknown := sorted(set(keep) - set(QUANTITIES)):
        raise InvalidRequest(
            f"keep: got {unknown[0]!r}, expected some of {', '.join(QUANTITIES)}.", param="keep"
        )
    if hidden := sorted(set(keep) - set(model.decoder.shows)):
        raise InvalidRequest(
            f"keep: got {hidden[0]!r}, expected some of {', '.join(model.decoder.shows)}, which is what a "
            f"{model.config.family} shows here.",
            param="keep",
        )
    for name, layers in keep.items():
        if beyond := sorted(layers - set(range(_last(model, name) + 1))):
            raise InvalidRequest(
                f"layers: got {beyond[0]} for {name}, expected 0 to {_last(model, name)}.", param="layers"
            )
    vocab = model.config.vocab
    if outside := [token for token in tokens if not 0 <= token < vocab]:
        raise InvalidRequest(
            f"tokens: got token id {outside[0]}, expected 0 to {vocab - 1}, the model's vocabulary.",
            param="tokens",
        )
    if not tokens:
        raise InvalidRequest("tokens: got none, expected at least one.", param="tokens")
    if not 0 <= first <= len(tokens):
        raise InvalidRequest(f"first: got {first}, expected 0 to {len(tokens)}, the tokens.", param="first")
    if len(tokens) > model.config.context:
        raise ContextExceeded(
            f"context: got {len(tokens)} tokens to replay, expected at most {model.config.context}."
        )
