"""A request to continue texts in the engine's terms: one request of the engine for each text."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from thermoscope.engine.request import Request
from thermoscope.errors import InvalidRequest
from thermoscope.server.completions.schema import CompletionRequest
from thermoscope.server.drawing import check_stream, sampling, steering, timeout
from thermoscope.server.forms import form
from thermoscope.server.logprobs import alternatives, check_size

if TYPE_CHECKING:
    from thermoscope.engine.steering import Steering
    from thermoscope.models.tokenizer import Tokenizer

MOST = 128  # answers to one request, of all its prompts together


def engine_requests(
    body: CompletionRequest, tokenizer: "Tokenizer", vectors: "Mapping[str, Steering]"
) -> list[Request]:
    """What the engine is asked to do. Tokenizes the prompts, so it is not for the event loop."""
    _check_pairs(body)
    prompts = [_ids(tokenizer, text, f"prompt[{at}]") for at, text in enumerate(body.prompt)]
    if body.echo and body.logprobs is not None:
        check_size("thermoscope.top_logprobs", body.all_alternatives or 0, sum(map(len, prompts)))
    return [_request(body, ids, vectors) for ids in prompts]


def _request(body: CompletionRequest, ids: tuple[int, ...], vectors: "Mapping[str, Steering]") -> Request:
    steered = steering(body, vectors)
    # Where nothing is to be drawn, one token is all the same, and not shown: so every check is the engine's.
    limit = None if body.max_tokens is None else max(1, body.max_tokens)
    shown = body.logprobs is not None
    return Request(
        prompt=ids,
        sampling=sampling(body, max_tokens=limit),
        steer=() if steered is None else steered.interventions(len(ids)),
        timeout=timeout(body),
        grammar=form(body),
        record=shown or body.with_records,
        alternatives=alternatives(body, shown=shown),
    )


def _ids(tokenizer: "Tokenizer", text: str | list[int], param: str) -> tuple[int, ...]:
    ids = tokenizer.prompt(text) if isinstance(text, str) else tuple(text)
    if not ids:
        raise InvalidRequest(f"{param}: got no tokens, expected at least one.", param="prompt")
    return ids


def _check_pairs(body: CompletionRequest) -> None:
    """Refuse fields that make no sense together."""
    check_stream(body)
    n = body.n or 1
    if body.best_of is not None and body.best_of != n:
        raise InvalidRequest(
            f"best_of: got {body.best_of}, expected {n}, the number of answers that are sent; ask for all of "
            "them by n, and choose.",
            param="best_of",
        )
    if n * len(body.prompt) > MOST:
        raise InvalidRequest(
            f"prompt: got {len(body.prompt)} with n = {n}, expected at most {MOST} answers; send fewer.",
            param="prompt",
        )
    if body.prompt_alternatives is not None:
        raise InvalidRequest(
            "thermoscope.prompt_logprobs: got a number, but here echo and logprobs show them; take those.",
            param="thermoscope.prompt_logprobs",
        )
