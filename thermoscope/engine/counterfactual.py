"""One sequence, run as it is, and then as often as wanted with something changed inside.

The two differ by the intervention and nothing else: both are teacher-forced, in the engine's own arithmetic.
What comes before the first change is the same in both, so it is run once and its keys and values are shared.
"""

from collections.abc import Collection, Iterator, Sequence

from thermoscope.engine.replay import Chunk, Keep, Place, See, chunks
from thermoscope.errors import InvalidRequest
from thermoscope.models.intervention import Intervention, first_touched
from thermoscope.models.model import Model

PLAIN, CHANGED = 0, 1  # slots


class Counterfactual:
    """A sequence, and the keys and values of its plain pass. Read `plain` to its end before `changed`."""

    def __init__(self, model: Model, tokens: Sequence[int]) -> None:
        self._model, self._tokens = model, tokens
        self._cache = model.cache(slots=2, context=max(1, len(tokens)))

    def plain(
        self,
        *,
        keep: Keep = (),
        layers: Collection[int] | None = None,
        logits: bool = False,
        see: See | None = None,
    ) -> Iterator[Chunk]:
        """The sequence as it is; arguments and errors as in `engine.replay.chunks`."""
        return self._run((), Place(self._cache, PLAIN), keep, layers, logits, see)

    def changed(
        self,
        interventions: Sequence[Intervention],
        *,
        keep: Keep = (),
        layers: Collection[int] | None = None,
        logits: bool = False,
        see: See | None = None,
    ) -> Iterator[Chunk]:
        """The sequence with interventions, from the first token that they can change on.

        Tokens before the first chunk's `start` are as they were; where nothing can change, there is no chunk.

        **Errors:** as in `engine.replay.chunks`; `InvalidRequest` where the plain pass has not been read.
        """
        length = len(self._tokens)
        start = first_touched(interventions, length)
        if self._cache.lengths[PLAIN] < length:
            raise InvalidRequest(
                "changed: got a sequence that was not run, expected `plain` read to its end."
            )
        self._cache.copy(PLAIN, CHANGED, start)
        return self._run(interventions, Place(self._cache, CHANGED, start), keep, layers, logits, see)

    def _run(
        self,
        interventions: Sequence[Intervention],
        place: Place,
        keep: Keep,
        layers: Collection[int] | None,
        logits: bool,
        see: See | None,
    ) -> Iterator[Chunk]:
        return chunks(
            self._model, self._tokens, keep=keep, layers=layers, logits=logits, see=see, place=place,
            interventions=interventions,
        )  # fmt: skip
