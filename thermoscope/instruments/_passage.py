"""A text whose every token is looked at: given, or spoken by the engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.seam import shared

if TYPE_CHECKING:
    from thermoscope.engine.trace import Trace
    from thermoscope.instruments.shape.lab import Lab

WORDS = 8  # tokens shown of a context


@dataclass(frozen=True)
class Passage:
    """`tokens`: prompt and text together. `first`: where the text begins.

    `trace`: of the engine's own text. `param`: the setting that a given text is from. `notes`: where its
    context is not the whole prompt.
    """

    tokens: tuple[int, ...]
    first: int
    trace: "Trace | None" = None
    param: str = "text"
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> tuple[int, ...]:
        """The text's own tokens."""
        return self.tokens[self.first :]

    def rows(self, lab: "Lab") -> Iterator[Float[np.ndarray, "vocab"]]:
        """The logits that predict each token of the text, float64; every call is a pass of the model."""
        for row in lab.logits(self.tokens[:-1], first=self.first - 1, param=self.param):
            yield row.astype(np.float64)

    def contexts(self, lab: "Lab") -> list[str]:
        """The words before each token of the text."""
        ends = range(self.first, len(self.tokens))
        return [lab.model.tokenizer.decode(self.tokens[max(0, end - WORDS) : end]) for end in ends]


def spoken(lab: "Lab", prompt: tuple[int, ...], **sampling: Any) -> Passage:
    """What the engine says after the prompt; `sampling` are the fields of `Sampling`."""
    (reply,) = lab.generate(prompt, [sampling])
    return Passage((*prompt, *reply.trace.tokens), len(prompt), reply.trace)


def given(lab: "Lab", prompt: str, text: str, param: str, *, chat: bool) -> Passage:
    """A text after the prompt. Both are read as one: a token that spans the seam counts as the text's.

    **Errors:** `InvalidRequest` for a text that adds no token; `param` names the setting that it is from.
    """
    before, tokenizer = lab.tokens(prompt, chat=chat), lab.model.tokenizer
    tokens = (*before, *tokenizer.encode(text)) if chat else tuple(tokenizer.prompt(prompt + text))
    seam = shared(before, tokens)
    first = max(1, seam)  # nothing predicts the first token of all
    if len(tokens) <= first:
        raise InvalidRequest(
            f"{param}: got {text[:60]!r}, which adds no token to the prompt, expected some text.", param=param
        )
    return Passage(tokens, first, param=param, notes=_spanning(lab, before[seam:], tokens, seam))


def _spanning(lab: "Lab", rest: Sequence[int], tokens: Sequence[int], seam: int) -> tuple[str, ...]:
    """What is to be said where the text's tokens begin before the prompt's end, with the tokens `rest`."""
    if not rest:
        return ()
    held = f"is counted from before the prompt's last {lab.model.tokenizer.decode(rest)!r}"
    spanning = lab.model.tokenizer.piece(tokens[seam])
    left_out = "" if seam else "; nothing predicts that one, so it is left out"
    return (
        f"Tokens span the prompt's end, so the text {held}, with the token {spanning!r}{left_out}. The next "
        f"token alone has the whole prompt before it, so its distribution is none of those along the text.",
    )
