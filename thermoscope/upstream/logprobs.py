"""The log-probabilities in another server's answer: each token, and the alternatives that were shown.

Two forms are about: the list of a chat, in which every alternative stands, and the older one of
`/v1/completions`, whose alternatives are an object with their texts as keys, where of two tokens with one
text only one is left. llama.cpp answers both addresses in the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from thermoscope.errors import UpstreamFailed
from thermoscope.laws.partial import Partial

REPLACED = "\ufffd"  # what a piece of a character reads as: several tokens have this text
LEAST = -9999.0  # what OpenAI writes for a token that is out of reach


@dataclass(frozen=True)
class Shown:
    """A token as a server shows it; `logprob` in nats, of whichever distribution it speaks of."""

    text: str
    bytes: bytes | None
    logprob: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        spelled = None if self.bytes is None else list(self.bytes)
        return {"text": self.text, "bytes": spelled, "logprob": self.logprob}


@dataclass(frozen=True)
class Choice:
    """A token that was chosen, and the most probable ones, best first.

    `whole`: whether no token above the last of `best` is missing among them.
    """

    chosen: Shown
    best: tuple[Shown, ...]
    whole: bool

    def partial(self, vocabulary: int | None = None) -> Partial | None:
        """What the alternatives say of the distribution; None where they say nothing that holds.

        The chosen token is left out where it is the last of them: some servers put it there whatever its
        rank, in the place of another.
        """
        ranked = self.best
        if ranked and self.chosen.logprob <= ranked[-1].logprob:
            ranked = ranked[:-1]
        if not self.whole or not ranked:
            return None
        return Partial(np.array([each.logprob for each in ranked]), vocabulary)


def choices(logprobs: Mapping[str, Any] | None, asked: int = 0) -> list[Choice]:
    """The tokens of an answer's field `logprobs`, or of a piece's; none where there is no such field.

    `asked`: how many alternatives must be there, where some may be missing.

    **Errors:** `UpstreamFailed` for a form that is neither.
    """
    if not logprobs:
        return []
    try:
        if "tokens" in logprobs:
            return _of_columns(logprobs, asked)
        return [_of_object(each) for each in logprobs.get("content") or ()]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UpstreamFailed(
            f"upstream: got logprobs with the fields {', '.join(map(str, logprobs))}, expected OpenAI's form."
        ) from None


def _of_object(plain: Mapping[str, Any]) -> Choice:
    shown = [_shown(each) for each in plain.get("top_logprobs") or ()]
    return Choice(_shown(plain), _ranked(shown), whole=True)


def _shown(plain: Mapping[str, Any]) -> Shown:
    spelled = plain.get("bytes")
    return Shown(str(plain["token"]), None if spelled is None else bytes(spelled), _number(plain["logprob"]))


def _of_columns(plain: Mapping[str, Any], asked: int) -> list[Choice]:
    alternatives = plain.get("top_logprobs") or [None] * len(plain["tokens"])
    found = []
    for text, logprob, others in zip(plain["tokens"], plain["token_logprobs"], alternatives, strict=True):
        chosen = Shown(str(text), None, _number(logprob))
        best = _ranked([Shown(other, None, _number(each)) for other, each in (others or {}).items()])
        beside = (
            bool(best) and chosen.logprob <= best[-1].logprob
        )  # it may stand there beside those asked for
        whole = len(best) - beside >= asked and not any(REPLACED in each.text for each in best)
        found.append(Choice(chosen, best, whole))
    return found


def _ranked(shown: list[Shown]) -> tuple[Shown, ...]:
    return tuple(sorted(shown, key=lambda each: -each.logprob))


def _number(value: object) -> float:
    if value is None:  # the first token of a prompt that is echoed
        return LEAST
    return max(float(value), LEAST)  # type: ignore[arg-type]  # a ValueError or a TypeError is caught
