"""What a grammar does to a request's answers as a whole, where they are few enough to look at all of them."""

from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from thermoscope.engine.request import Request
from thermoscope.errors import InvalidRequest
from thermoscope.server.fields import Answering

if TYPE_CHECKING:
    from thermoscope.engine.constraint import Path
    from thermoscope.server.service import Service

PARAM = "thermoscope.constraint"


async def allowed(service: "Service", body: Answering, request: Request) -> "list[Path] | None":
    """Every answer that the request's grammar allows; None where nobody asks for what it does.

    **Errors:** `InvalidRequest` for a request without a grammar, or with one that allows too many.
    """
    if body.thermoscope is None or not body.thermoscope.constraint:
        return None
    if request.grammar is None:
        raise InvalidRequest(
            f"{PARAM}: got true without a grammar; set response_format or thermoscope.grammar.", param=PARAM
        )
    from thermoscope.engine.constraint import paths

    guides, grammar = service.model.runner.engine.guides, request.grammar
    return await run_in_threadpool(lambda: paths(guides.guide(grammar), service.model.tokenizer.end_ids))


async def cost(service: "Service", request: Request, every: "list[Path] | None") -> dict[str, Any]:
    """What a response says of it: `laws.constraint`'s numbers, over so many answers; nothing if not asked."""
    if every is None:
        return {}
    from thermoscope.engine.constraint import summed, weigh

    parts = await service.aside.look(lambda model: weigh(model, request.prompt, every, request.steer))
    found = summed([weight for part in parts for weight in part])
    return {"constraint": {"answers": len(every), **found._asdict()}}


def refuse(body: Answering) -> None:
    """Have an address that does not say it refuse to be asked."""
    if body.thermoscope is not None and body.thermoscope.constraint:
        raise InvalidRequest(
            f"{PARAM}: got true, but only chat/completions and responses say it; ask there, or leave it out.",
            param=PARAM,
        )
