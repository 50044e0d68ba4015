"""The log-probabilities of an answer's tokens, in OpenAI's form."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from thermoscope.engine.trace import Step

if TYPE_CHECKING:
    from thermoscope.models.tokenizer import Tokenizer

LEAST_LOGPROB = -9999.0  # what OpenAI writes for a token that is out of reach


def logprobs(steps: Iterable[Step], tokenizer: "Tokenizer", best: int) -> list[dict[str, Any]]:
    """Each spoken token, with so many of the `best` that could have stood in its place.

    A control token is no part of the content, so it has no place in a list that mirrors it.
    """
    items = []
    for step in steps:
        if not tokenizer.is_control(step.token):
            assert step.record is not None  # requests ask for records wherever logprobs are wanted
            others = step.record.alternatives[:best]
            items.append(
                {
                    **_token(step.token, step.record.logprob, tokenizer),
                    "top_logprobs": [_token(other.token, other.logprob, tokenizer) for other in others],
                }
            )
    return items


def _token(token: int, logprob: float, tokenizer: "Tokenizer") -> dict[str, Any]:
    return {
        "token": tokenizer.piece(token),
        "logprob": max(logprob, LEAST_LOGPROB),
        "bytes": list(tokenizer.bytes_of(token)) or None,
    }
