"""What a response says beside its answer: second looks at the model, once the answer is complete."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from thermoscope.engine.request import Request
from thermoscope.server.constraint import allowed, cost
from thermoscope.server.fields import Answering
from thermoscope.server.logprobs import prompt_items, scored

if TYPE_CHECKING:
    from thermoscope.server.service import Service

Beside = Callable[[], Awaitable[dict[str, Any]]]


async def beside(service: "Service", body: Answering, request: Request) -> Beside:
    """Looks for what stands under `thermoscope`: the prompt's scores, what a grammar costs; often nothing.

    **Errors:** at once, what `allowed` refuses.
    """
    every = await allowed(service, body, request)

    async def look() -> dict[str, Any]:
        seen = await cost(service, request, every)
        if body.prompt_alternatives is not None:
            scores = await scored(service.aside, request, body.prompt_alternatives)
            seen["prompt_logprobs"] = prompt_items(service.model.tokenizer, scores)
        return seen

    return look
