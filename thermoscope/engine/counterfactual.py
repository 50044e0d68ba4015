"""One sequence, run as it is, and then as often as wanted with something changed inside, or with another end.

The two differ by the intervention and nothing else: both are teacher-forced, in the engine's own arithmetic.
What comes before the first change is the same in both, so it is run once and its keys and values are shared.
"""

from collections.abc import Collection, Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from thermoscope.engine.replay import Chunk, Keep, Place, See, chunks
from thermoscope.errors import InvalidRequest
from thermoscope.models.intervention import Intervention, check, first_touched
from thermoscope.models.model import Model

PLAIN, CHANGED = 0, 1  # slots


class Counterfactual:
    """A sequence, and the keys and values of its plain pass. Read `plain` to its end before `changed`."""

    def __init__(self, model: Model, tokens: Sequence[int], *, room: int = 0) -> None:
        """`room`: tokens of the longest sequence that `instead` is to run, where that is longer."""
        self._model, self._tokens = model, tokens
        self._cache = model.cache(slots=2, context=max(1, len(tokens), room))

    def memory(self, layer: int, length: int) -> tuple[Float[Tensor, "kv length dim"], ...]:
        """Keys and values of the plain pass's first `length` tokens, as the cache holds them."""
        return self._cache.read(layer, slice(PLAIN, PLAIN + 1), length)

    def plain(
        self,
        *,
        keep: Keep = (),
        layers: Collection[int] | None = None,
        logits: bool = False,
        see: See | None = None,
    ) -> Iterator[Chunk]:
        """The sequence as it is; arguments and errors as in `engine.replay.chunks`."""
        place = Place(self._cache, PLAIN)
        return chunks(
            self._model, self._tokens, keep=keep, layers=layers, logits=logits, see=see, place=place
        )

    def changed(
        self,
        interventions: Sequence[Intervention],
        *,
        keep: Keep = (),
        layers: Collection[int] | None = None,
        logits: bool = False,
        first: int = 0,
        see: See | None = None,
    ) -> Iterator[Chunk]:
        """The sequence with interventions, from the first token that they can change on.

        Tokens before the first chunk's `start` are as they were; where nothing can change, there is no chunk.

        **Errors:** as in `engine.replay.chunks`; `InvalidRequest` where the plain pass has not been read.
        """
        check(interventions, len(self._tokens), self._model.config)
        start = first_touched(interventions, len(self._tokens))
        place = self._after(start, len(self._tokens))
        return chunks(
            self._model, self._tokens, keep=keep, layers=layers, logits=logits, first=first, see=see,
            place=place, interventions=interventions,
        )  # fmt: skip

    def instead(
        self, start: int, tokens: Sequence[int], *, logits: bool = False, first: int = 0
    ) -> Iterator[Chunk]:
        """The sequence up to index `start` and then other tokens, which the chunks are of.

        **Errors:** as in `changed`; `InvalidRequest` for a start out of range, or for more than there is
        room for.
        """
        length = start + len(tokens)
        if not 0 <= start <= len(self._tokens):
            raise InvalidRequest(f"start: got {start}, expected 0 to {len(self._tokens)}.")
        if length > self._cache.context:
            raise InvalidRequest(
                f"instead: got {length} tokens in all, expected at most {self._cache.context}, the room."
            )
        place = self._after(start, start)
        whole = [*self._tokens[:start], *tokens]
        return chunks(self._model, whole, logits=logits, first=first, place=place)

    def _after(self, start: int, needed: int) -> Place:
        """Where a second pass goes on from index `start`, if the plain pass has come as far as needed."""
        if self._cache.lengths[PLAIN] < needed:
            raise InvalidRequest(
                "changed: got a sequence that was not run, expected `plain` read to its end."
            )
        self._cache.copy(PLAIN, CHANGED, start)
        return Place(self._cache, CHANGED, start)
