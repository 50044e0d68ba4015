"""Log-probabilities as OpenAI writes them, and how many a request asks for."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from thermoscope.engine.request import ALTERNATIVES
from thermoscope.errors import InvalidRequest
from thermoscope.server.fields import Answering

if TYPE_CHECKING:
    from thermoscope.engine.request import Request
    from thermoscope.engine.scores import Score
    from thermoscope.engine.trace import Step
    from thermoscope.models.tokenizer import Tokenizer
    from thermoscope.server.aside import Aside

LEAST_LOGPROB = -9999.0  # what OpenAI writes for a token that is out of reach
MOST = 2**19  # alternatives of one request beyond 20 a token: about 50 MB of JSON

Named = Sequence[tuple[int, float]]  # tokens with their log-probabilities, best first


def written(logprob: float) -> float:
    """A log-probability that JSON can hold."""
    return max(logprob, LEAST_LOGPROB)


def best_of(step: "Step", count: int) -> Named:
    """The most probable tokens in a step's place."""
    assert step.record is not None  # whoever shows log-probabilities asks for records
    return [(other.token, other.logprob) for other in step.record.alternatives[:count]]


def item(tokenizer: "Tokenizer", token: int, logprob: float | None, best: Named) -> dict[str, Any]:
    """A token as a conversation's `logprobs.content` holds it."""
    return {
        **_token(tokenizer, token, logprob),
        "top_logprobs": [_token(tokenizer, *other) for other in best],
    }


def logprobs(steps: Iterable["Step"], tokenizer: "Tokenizer", best: int) -> list[dict[str, Any]]:
    """Each spoken token, with so many of the `best` that could have stood in its place.

    A control token is no part of the content, so it has no place in a list that mirrors it.
    """
    return [
        item(tokenizer, step.token, step.record.logprob, best_of(step, best))
        for step in steps
        if step.record is not None and not tokenizer.is_control(step.token)
    ]


def prompt_items(tokenizer: "Tokenizer", scored: Iterable["Score"]) -> list[dict[str, Any]]:
    """A prompt's tokens in the same form. The first follows nothing, and its `logprob` is null."""
    return [item(tokenizer, score.token, score.logprob, score.best) for score in scored]


async def scored(aside: "Aside", request: "Request", best: int) -> list["Score"]:
    """How the model that answered scores the request's prompt: a second look, beside everybody's answers."""
    from thermoscope.engine.scores import scores

    parts = await aside.look(
        lambda model: scores(model, request.prompt, best=best, interventions=request.steer)
    )
    return [score for part in parts for score in part]


def alternatives(body: Answering, *, shown: bool) -> int:
    """How many alternatives each step must record.

    `shown`: whether the answer has log-probabilities.

    **Errors:** `InvalidRequest` for a number that nothing would show.
    """
    if body.all_alternatives is None:
        return ALTERNATIVES
    if not shown and not body.with_steps:
        raise InvalidRequest(
            "thermoscope.top_logprobs: got a number, but neither logprobs nor thermoscope.steps; ask for one "
            "of them.",
            param="thermoscope.top_logprobs",
        )
    return max(body.all_alternatives, ALTERNATIVES)


def check_size(param: str, each: int, tokens: int) -> None:
    """Refuse more alternatives than an answer can reasonably hold: so many for each of these tokens.

    **Errors:** `InvalidRequest`, naming `param`.
    """
    if each > ALTERNATIVES and each * tokens > MOST:
        raise InvalidRequest(
            f"{param}: got {each} for up to {tokens} tokens, expected at most {MOST} in all; lower it, or "
            "the number of tokens.",
            param=param,
        )


def _token(tokenizer: "Tokenizer", token: int, logprob: float | None) -> dict[str, Any]:
    return {
        "token": tokenizer.piece(token),
        "logprob": None if logprob is None else written(logprob),
        "bytes": list(tokenizer.bytes_of(token)) or None,
    }
