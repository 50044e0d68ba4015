r"""Texts that continue a prompt, and their probability by the chain rule.

$$\log P(y \mid x) = \sum_t \log P(y_t \mid x, y_{<t})$$

**The seam.** A text is read as the tokens of prompt and text together, since a token may span the two: after
"Mood: " the text "good" is the token " good", not a space and "good". All texts of a set are counted from
the first token that any of them changes, so that all are conditional on the same tokens before. After a
chat's template, whose last token is the template's own, a text has its own tokens.

The probability is that of these tokens, followed by anything: no end is asked for, and the same text spelled
in other tokens is not counted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.reading import Check
from thermoscope.instruments.shape.seam import shared
from thermoscope.laws import boltzmann

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab

Tokens = tuple[int, ...]
Row = Float[np.ndarray, "vocab"]


@dataclass(frozen=True)
class Continuation:
    """A text after a prompt, as a state of its own.

    - `given`: the token ids before the seam. `tokens`: its own.
    - `logits`: z of each of its tokens, [tokens]; defined up to a constant a token.
    - `log_p`: log-probability of each of its tokens, [tokens], in nats.
    - `tempered`: the same at each temperature that was asked for, [temperatures, tokens].
    - `log_z`: log Σ p^(1/T) of each step, likewise: its partition function where E = −log p.
    """

    text: str
    given: Tokens
    tokens: Tokens
    logits: Float[np.ndarray, "tokens"]
    log_p: Float[np.ndarray, "tokens"]
    tempered: Float[np.ndarray, "temperatures tokens"]
    log_z: Float[np.ndarray, "temperatures tokens"]

    @property
    def logprob(self) -> float:
        """log P(text | prompt), in nats; −logprob is the state's energy in the gauge where each Z is 1."""
        return math.fsum(self.log_p)

    def begins(self, other: "Continuation") -> bool:
        """Whether the other goes on after all of this one's tokens."""
        size = len(self.tokens)
        return size < len(other.tokens) and other.tokens[:size] == self.tokens


def continuations(
    lab: "Lab",
    prompt: str,
    texts: Sequence[str],
    param: str,
    *,
    chat: bool,
    temperatures: Sequence[float] = (),
) -> list[Continuation]:
    """Each text after the prompt. `param`: the setting that they are from.

    **Errors:** `InvalidRequest` for a text without a token of its own, for one that is there twice, and for
    one that changes the prompt's first token, which nothing predicts.
    """
    given, tails = seam(lab, prompt, texts, param, chat=chat)
    first = lab.last(given, param=param)
    found = []
    for text, tokens in lab.track("continuing", list(zip(texts, tails, strict=True))):
        rows: Iterator[Row] = iter([first])
        if len(tokens) > 1:
            rows = chain(rows, lab.logits((*given, *tokens[:-1]), first=len(given), param=param))
        found.append(_continuation(text, given, tokens, rows, temperatures))
    return found


def seam(
    lab: "Lab", prompt: str, texts: Sequence[str], param: str, *, chat: bool
) -> tuple[Tokens, list[Tokens]]:
    """The tokens that all texts have before them, and each text's own; errors as in `continuations`."""
    tokenizer, before = lab.model.tokenizer, lab.tokens(prompt, chat=chat)
    if chat:
        whole = [(*before, *tokenizer.encode(text)) for text in texts]
    else:
        whole = [tuple(tokenizer.prompt(prompt + text)) for text in texts]
    for index, (text, tokens) in enumerate(zip(texts, whole, strict=True)):
        place = f"{param}[{index}]"
        if tokens == before:
            raise InvalidRequest(
                f"{place}: got {text!r}, which adds no token to the prompt, expected some text.", param=place
            )
        if tokens in whole[:index]:
            raise InvalidRequest(f"{place}: got {text!r} again, expected each text once.", param=place)
    start = shared(before, *whole)
    if start == 0:
        index = next(at for at, tokens in enumerate(whole) if tokens[:1] != before[:1])
        place = f"{param}[{index}]"
        raise InvalidRequest(
            f"{place}: got {texts[index]!r}, which changes the prompt's first token, and nothing "
            f"predicts that; expected a longer prompt, or a space between the two.",
            param=place,
        )
    return before[:start], [tokens[start:] for tokens in whole]


def reread(lab: "Lab", prompt: str, found: Sequence[Continuation], *, chat: bool) -> list[str]:
    """A note on the prompt's last tokens, where they count with the texts."""
    rest = lab.tokens(prompt, chat=chat)[len(found[0].given) :]
    if not rest:
        return []
    text = lab.model.tokenizer.decode(rest)
    return [
        f"Tokens span the prompt's end, so these texts are counted from before its last {text!r}, and their "
        f"probabilities are conditional on what stands before that."
    ]


def chain_rule(lab: "Lab", found: Sequence[Continuation], what: str) -> Check:
    """Whether a pass over each whole text gives its tokens the log-probabilities that were found.

    `what`: the setting that the texts are from.
    """
    residuals = []
    for each in lab.track("checking", found):
        replayed = lab.replay((*each.given, *each.tokens), first=len(each.given) - 1, param=what)
        residuals.append(float(np.abs(replayed.logprobs.numpy() - each.log_p).max()))
    return Check(
        f"chain rule = replay, {what}",
        "largest |log p from the logits of passes that end before the token − log p of a replay of all|",
        max(residuals),
        lab.tie,
    )


def _continuation(
    text: str,
    given: Tokens,
    tokens: Tokens,
    rows: Iterator[Row],
    temperatures: Sequence[float],
) -> Continuation:
    """`rows`: the logits before each of the tokens, of which only one at a time is held."""
    steps = [_step(row, token, temperatures) for row, token in zip(rows, tokens, strict=True)]
    logits, log_p, tempered, log_z = zip(*steps, strict=True)
    return Continuation(
        text=text,
        given=given,
        tokens=tokens,
        logits=np.array(logits),
        log_p=np.array(log_p),
        tempered=np.array(tempered).T,
        log_z=np.array(log_z).T,
    )


def _step(
    row: Row, token: int, temperatures: Sequence[float]
) -> tuple[float, float, list[float], list[float]]:
    """A token's logit and log-probability; at each temperature log-probability and the step's log Z."""
    log_p = boltzmann.log_probabilities(row.astype(np.float64))
    tempered = [float(boltzmann.log_probabilities(log_p, each)[token]) for each in temperatures]
    log_z = [float(boltzmann.thermodynamics(log_p, each).log_z) for each in temperatures]
    return float(row[token]), float(log_p[token]), tempered, log_z
