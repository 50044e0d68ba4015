"""Log-probabilities as OpenAI writes them."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thermoscope.engine.trace import Step
    from thermoscope.models.tokenizer import Tokenizer

LEAST_LOGPROB = -9999.0  # what OpenAI writes for a token that is out of reach

Named = Sequence[tuple[int, float]]  # tokens with their log-probabilities, best first


def logprobs(steps: Iterable["Step"], tokenizer: "Tokenizer", best: int) -> list[dict[str, Any]]:
    """Each spoken token, with so many of the `best` that could have stood in its place.

    A control token is no part of the content, so it has no place in a list that mirrors it.
    """
    return [
        item(tokenizer, step.token, step.record.logprob, best_of(step, best))
        for step in steps
        if step.record is not None and not tokenizer.is_control(step.token)
    ]


def best_of(step: "Step", count: int) -> Named:
    """The most probable tokens in a step's place."""
    others = step.record.alternatives[:count] if step.record is not None else ()
    return [(other.token, other.logprob) for other in others]


def item(tokenizer: "Tokenizer", token: int, logprob: float, best: Named) -> dict[str, Any]:
    """A token as a conversation's `logprobs.content` holds it."""
    return {
        **_token(tokenizer, token, logprob),
        "top_logprobs": [_token(tokenizer, *other) for other in best],
    }


def _token(tokenizer: "Tokenizer", token: int, logprob: float) -> dict[str, Any]:
    return {
        "token": tokenizer.piece(token),
        "logprob": max(logprob, LEAST_LOGPROB),
        "bytes": list(tokenizer.bytes_of(token)) or None,
    }
