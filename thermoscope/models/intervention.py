"""What may be changed inside a forward call: what tokens see of each other, and the residual stream.

Positions are a token's index in its sequence, layers count from 0. The stream that a layer finds has the
layer's number; the one before the final norm has the number of layers.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.errors import InvalidRequest


@dataclass(frozen=True, eq=False)
class Suppress:
    """Keys and values of `keys` are not seen by `queries`, as if the cache did not hold them.

    No token moves: rotary positions stay. A token always sees itself.

    - `queries`: positions; None is every one after the last of `keys`, so that those see each other.
    - `layers`: None is all.
    """

    keys: Collection[int]
    queries: Collection[int] | None = None
    layers: Collection[int] | None = None


@dataclass(frozen=True, eq=False)
class Patch:
    """The residual stream that `layer` finds at `positions` is replaced by `rows`."""

    layer: int
    positions: Sequence[int]
    rows: Float[Tensor, "positions hidden"]


@dataclass(frozen=True, eq=False)
class Add:
    """`vector` is added to the residual stream that `layer` finds, at `positions`; None is all of them."""

    layer: int
    vector: Float[Tensor, "hidden"]
    positions: Collection[int] | None = None


@dataclass(frozen=True, eq=False)
class Lean:
    """γ cos(h, task) · `vector` is added to the stream h that `layer` finds, at positions from `first` on."""

    layer: int
    vector: Float[Tensor, "hidden"]
    task: Float[Tensor, "hidden"]
    gamma: float
    first: int = 0

    def added(self, x: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
        """What each row would be given."""
        similar = torch.nn.functional.cosine_similarity(x, self.task.to(x.dtype)[None], dim=1)
        return self.gamma * similar[:, None] * self.vector.to(x.dtype)


@dataclass(frozen=True, eq=False)
class Overwrite:
    """The keys and values of `positions` of `layer` are replaced for every token after the last of them.

    Keys carry the rotation of the position that they were computed at.
    """

    layer: int
    positions: Sequence[int]
    keys: Float[Tensor, "positions kv dim"]
    values: Float[Tensor, "positions kv dim"]

    @property
    def until(self) -> int:
        """The first position that reads what is put there."""
        return max(self.positions) + 1


Intervention = Suppress | Patch | Add | Lean | Overwrite


class Interventions:
    """Interventions on the rows of one forward call.

    - `by_slot`: what is done to the sequence of each slot, in order. `slots`, `positions`: of the rows.
    """

    def __init__(
        self,
        by_slot: Mapping[int, Iterable[Intervention]],
        slots: Int[Tensor, "rows"],
        positions: Int[Tensor, "rows"],
    ) -> None:
        self._positions = positions
        self._stream: list[tuple[Patch | Add | Lean, Bool[Tensor, "rows"]]] = []
        # By the layers that it holds for: a window that rolls is one change for each token, and one mask.
        self._hidden: dict[frozenset[int] | None, Bool[Tensor, "rows length"]] = {}
        for slot, interventions in by_slot.items():
            here = slots == slot
            if not here.any():
                continue
            for each in interventions:
                if isinstance(each, Suppress):
                    self._hide(each, here)
                elif not isinstance(each, Overwrite):  # which is done to the cache, between two calls
                    self._stream.append((each, here))

    def stream(self, layer: int, x: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
        """The residual stream as the layer is to find it; `x` itself where nothing changes."""
        for each, here in self._stream:
            if each.layer != layer:
                continue
            if isinstance(each, Add):
                if each.positions is not None:
                    here = here & torch.isin(self._positions, torch.tensor([*each.positions]))
                x = torch.where(here[:, None], x + each.vector.to(x.dtype), x)
            elif isinstance(each, Lean):
                here = here & (self._positions >= each.first)
                x = torch.where(here[:, None], x + each.added(x), x)
            else:
                matches = here[:, None] & (self._positions[:, None] == torch.tensor([*each.positions]))
                row, which = matches.nonzero(as_tuple=True)
                x = x.index_put((row,), each.rows[which].to(x.dtype))
        return x

    def hidden(self, layer: int) -> Bool[Tensor, "rows length"] | None:
        """Which positions each row must not see in this layer; None where it may see all."""
        found = None
        for layers, hides in self._hidden.items():
            if layers is None or layer in layers:
                found = hides if found is None else found | hides
        return found

    def _hide(self, each: Suppress, here: Bool[Tensor, "rows"]) -> None:
        length = int(self._positions.max()) + 1
        keys = torch.tensor([key for key in each.keys if key < length], dtype=torch.long)
        if each.queries is None:
            here = here & (self._positions > max(each.keys, default=0))
        else:
            here = here & torch.isin(self._positions, torch.tensor([*each.queries], dtype=torch.long))
        rows = here.nonzero()[:, 0]
        layers = None if each.layers is None else frozenset(each.layers)
        hides = self._hidden.setdefault(layers, torch.zeros(len(here), length, dtype=torch.bool))
        hides[rows[:, None], keys] = True
        hides[rows, self._positions[rows]] = False


def first_touched(interventions: Iterable[Intervention], length: int) -> int:
    """The first position whose numbers interventions can change; `length` where there is none."""
    first = length
    for each in interventions:
        if isinstance(each, Suppress):
            if not each.keys:
                continue
            queries = range(max(each.keys) + 1, length) if each.queries is None else each.queries
            touched: Iterable[int] = (query for query in queries if query > min(each.keys))
        elif isinstance(each, Overwrite):
            touched = range(each.until, length)
        elif isinstance(each, Lean):
            touched = range(each.first, length)
        else:
            touched = range(length) if each.positions is None else each.positions
        first = min(first, min(touched, default=length))
    return first


def fingerprint(interventions: Iterable[Intervention]) -> str | None:
    """What tells some changes from others: 16 hexadecimal digits of everything in them; None for none."""
    every = list(interventions)
    digest = hashlib.sha256()
    for each in every:
        digest.update(type(each).__name__.encode())
        for part in fields(each):
            value = getattr(each, part.name)
            if isinstance(value, Tensor):
                digest.update(value.float().contiguous().numpy().tobytes())
            else:
                digest.update(repr([*value] if isinstance(value, Collection) else value).encode())
    return digest.hexdigest()[:16] if every else None


def check(interventions: Iterable[Intervention], length: int, config: ModelConfig) -> None:
    """Refuse what a sequence of this length in this model has no place for.

    **Errors:** `InvalidRequest` for a position, a layer or a shape that does not fit, or NaN or ∞.
    """
    hidden, heads = config.hidden, (config.kv_heads, config.head_dim)
    for each in interventions:
        name = type(each).__name__.lower()
        tensors: list[tuple[Tensor, tuple[int, ...]]] = []
        positions, layers, last = set(), set(), config.layers
        match each:
            case Suppress():
                positions, layers = {*each.keys, *(each.queries or ())}, {*(each.layers or ())}
                last = config.layers - 1
            case Patch():
                positions, layers = {*each.positions}, {each.layer}
                tensors = [(each.rows, (len(each.positions), hidden))]
            case Add():
                positions, layers = {*(each.positions or ())}, {each.layer}
                tensors = [(each.vector, (hidden,))]
            case Lean():
                positions, layers = {each.first}, {each.layer}
                tensors = [(each.vector, (hidden,)), (each.task, (hidden,))]
            case Overwrite():
                positions, layers, last = {*each.positions}, {each.layer}, config.layers - 1
                tensors = [(kv, (len(each.positions), *heads)) for kv in (each.keys, each.values)]
        _within(f"{name}: position", positions, length - 1)
        _within(f"{name}: layer", layers, last)
        for tensor, shape in tensors:
            if tuple(tensor.shape) != shape:
                raise InvalidRequest(
                    f"{name}: got a tensor of shape {list(tensor.shape)}, expected {list(shape)}."
                )
            if not tensor.isfinite().all():  # it would end every answer of its step
                raise InvalidRequest(f"{name}: got NaN or infinity in a tensor, expected numbers.")
        if isinstance(each, Overwrite) and not positions:
            raise InvalidRequest(f"{name}: got no positions, expected at least one.")


def _within(what: str, found: Iterable[int], last: int) -> None:
    for number in found:
        if not 0 <= number <= last:
            raise InvalidRequest(f"{what}: got {number}, expected 0 to {last}.")
