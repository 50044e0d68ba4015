"""Log-probabilities as OpenAI writes them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thermoscope.engine.trace import Step
    from thermoscope.models.tokenizer import Tokenizer

LEAST_LOGPROB = -9999.0  # what OpenAI writes for a token that is out of reach

Named = Sequence[tuple[int, float]]  # tokens with their log-probabilities, best first


def best_of(step: "Step", count: int) -> Named:
    """The most probable tokens in a step's place."""
    assert step.record is not None  # whoever shows log-probabilities asks for records
    return [(other.token, other.logprob) for other in step.record.alternatives[:count]]


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
