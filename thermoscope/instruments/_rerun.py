"""A chain of thought run as it is, and again with something hidden, or with another end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thermoscope.engine.counterfactual import Counterfactual
from thermoscope.instruments._looking import SEEN, Look, Looking
from thermoscope.models.distribution import log_z

if TYPE_CHECKING:
    from thermoscope.catalogue.config import ModelConfig
    from thermoscope.engine.replay import Chunk
    from thermoscope.instruments._chain import Chain
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.models.intervention import Intervention
    from thermoscope.models.model import Model


@dataclass(frozen=True)
class Effect:
    """What a change did.

    - `answer`: log P(answer) with it, in nats.
    - `logprobs`: [tokens − 1] float64, of each token but the first; where nothing could change, or nobody
      asked, as it was.
    - `kl`: [tokens], KL(plain‖changed) of the distribution after each token, nats; empty unless asked for.
    """

    answer: float
    logprobs: Float[np.ndarray, "tokens-1"]
    kl: Float[np.ndarray, "tokens"]


class Rerun:
    """The plain pass is made at once; `look` is what it showed, `logprobs` those of its tokens.

    `room`: tokens that another reasoning may have more. Arguments else as for `Looking`.
    """

    def __init__(
        self, lab: "Lab", chain: "Chain", *, sinks: int, until: int, head: tuple[int, int] | None, room: int
    ) -> None:
        self._lab, self.chain = lab, chain
        self._tokens = chain.tokens
        parts: list[Chunk] = []
        for part in lab.pieces(lambda model: self._plain(model, sinks, until, head, room), len(self._tokens)):
            parts.append(part)
        self.look: Look = self._looking.done()
        self.logprobs = torch.cat([part.logprobs for part in parts]).numpy()
        self.answer = self._answer(self.logprobs)

    def _plain(
        self, model: "Model", sinks: int, until: int, head: tuple[int, int] | None, room: int
    ) -> "Iterator[Chunk]":
        self._room = min(len(self._tokens) + room, model.config.context)
        self._case = Counterfactual(model, self._tokens, room=self._room)
        self._looking = Looking(model, self._case, self.chain, sinks=sinks, until=until, head=head)
        return self._case.plain(keep=SEEN, see=self._looking)

    def changed(
        self,
        interventions: "Sequence[Intervention]",
        *,
        kl: bool = False,
        first: int = 0,
        what: str = "hiding",
    ) -> Effect:
        """The same tokens with something changed inside.

        `first`: index of the first token behind which distributions count; `before_answer` leaves the others
        out. `kl`: whether to hold them to the plain ones.
        """
        logprobs, seen = self.logprobs.copy(), np.zeros(len(self._tokens) if kl else 0)
        run = self._lab.pieces(lambda model: self._against(model, interventions, kl, first), 0, what)
        for start, found, divergent in run:
            logprobs[start : start + len(found)] = found
            if kl:
                seen[start : start + len(divergent)] = divergent
        return Effect(self._answer(logprobs), logprobs, seen)

    def instead(self, start: int, tokens: Sequence[int], what: str = "asking") -> float:
        """log P(answer) where from index `start` on other tokens stand, the last of which are the answer."""
        first = start + len(tokens) - len(self.chain.answer) - 1
        parts = list(self._lab.pieces(lambda _: self._case.instead(start, tokens, first=first), 0, what))
        return self._answer(torch.cat([part.logprobs for part in parts]).numpy())

    @property
    def before_answer(self) -> int:
        """Index of the token that stands before the answer."""
        return len(self._tokens) - len(self.chain.answer) - 1

    @property
    def room(self) -> int:
        """Tokens of the longest sequence that `instead` takes."""
        return self._room

    @property
    def config(self) -> "ModelConfig":
        """The model's shape."""
        return self._lab.model.config

    @property
    def precision(self) -> str:
        """The model's arithmetic."""
        return self._lab.model.precision

    @property
    def width(self) -> int:
        """Bytes of one number of a key or a value."""
        return self._case.memory(0, 1)[0].element_size()

    def held(self, length: int) -> int:
        """Bytes of the keys and values of the first `length` tokens, as they lie in the cache."""
        held = (each for layer in range(self.config.layers) for each in self._case.memory(layer, length))
        return sum(each.numel() * each.element_size() for each in held)

    def without_question(self) -> float:
        """log P(answer) behind the cue alone: what the answer has for itself."""
        tokens = (*self.chain.bare, *self.chain.tail)
        seen = self._lab.replay(tokens, first=len(tokens) - len(self.chain.answer) - 1, param="prompt")
        return self._answer(seen.logprobs.numpy())

    def encode(self, text: str) -> list[int]:
        """Its tokens, as of a text that goes on."""
        return self._lab.model.tokenizer.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Their text."""
        return self._lab.model.tokenizer.decode(tokens)

    def lens(self, stream: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocab"]:
        """Final norm and unembedding, as the model has them, of any layer's stream."""
        (found,) = self._lab.pieces(
            lambda model: iter([_logits(model, stream)]), 0, "reading through the lens"
        )
        return found

    @torch.inference_mode()
    def _against(
        self, model: "Model", interventions: "Sequence[Intervention]", kl: bool, first: int
    ) -> "Iterator[tuple[int, np.ndarray, np.ndarray]]":
        for part in self._case.changed(interventions, logits=kl, first=first):
            start, divergent = max(part.start, first), np.zeros(0)
            if part.logits is not None:
                # The plain logits once more, from the stream: all of them would be 200 KB a token.
                plain = model.decoder.logits(self.look.last[start : start + len(part.logits)])
                divergent = _divergence(plain, part.logits).numpy()
            yield start, part.logprobs.numpy(), divergent

    def _answer(self, logprobs: Float[np.ndarray, "tokens"]) -> float:
        return float(logprobs[-len(self.chain.answer) :].sum())


@torch.inference_mode()
def _logits(model: "Model", stream: Tensor) -> Tensor:
    return model.decoder.logits(stream)


def _divergence(p: Float[Tensor, "rows vocab"], q: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows"]:
    """KL(p‖q) of logits: Σ p (z_p − z_q) − log Z_p + log Z_q, the sum in float64."""
    normal = log_z(p)
    off = (p - q).double().mul_(torch.exp(p - normal[:, None].float()))
    return (off.sum(dim=-1) - normal + log_z(q)).clamp(min=0)
