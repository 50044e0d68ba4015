"""POST /v1/embeddings: texts as vectors. `engine.embedding` says which."""

import base64
import struct
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import FastAPI, Request
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from starlette.concurrency import run_in_threadpool

from thermoscope.errors import ContextExceeded, InvalidRequest
from thermoscope.server.fields import Body, Texts, example
from thermoscope.server.gone import unless_gone
from thermoscope.server.service import Service

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel

MOST = 2048  # texts of one request, as OpenAI's


def _not_too_many(texts: list[str | list[int]]) -> list[str | list[int]]:
    if len(texts) > MOST:
        raise PydanticCustomError("texts", "List should have at most {most} items", {"most": MOST})
    return texts


class EmbeddingsRequest(Body):
    """The body of POST /v1/embeddings."""

    model_config = example(input="What is the capital of France?")

    model: str
    input: Annotated[Texts, AfterValidator(_not_too_many)]
    encoding_format: Literal["float", "base64"] | None = None

    user: str | None = None  # taken, and of no effect: it names the caller

    dimensions: None = None  # a vector's first numbers mean nothing by themselves, unless trained to


def install(app: FastAPI, service: Service) -> None:
    """Have the app embed texts."""
    model = service.model

    @app.post("/v1/embeddings")
    async def embeddings(body: EmbeddingsRequest, exchange: Request) -> dict[str, Any]:
        """The mean of each text's last hidden states, as a vector of length 1."""
        service.known(body.model)
        texts = await run_in_threadpool(_ids, body, model)
        vectors = await unless_gone(exchange, _vectors(texts, service))
        tokens = sum(map(len, texts))
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _written(vector, body.encoding_format)}
                for index, vector in enumerate(vectors)
            ],
            "model": body.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }


async def _vectors(texts: Sequence[Sequence[int]], service: Service) -> list[list[float]]:
    from thermoscope.engine.embedding import embedding, states

    return [embedding(await service.aside.look(partial(states, tokens=text))) for text in texts]


def _ids(body: EmbeddingsRequest, model: "LanguageModel") -> list[tuple[int, ...]]:
    """Each text's tokens, checked before the first is read."""
    texts = []
    vocab = model.tokenizer.vocab_size
    for at, text in enumerate(body.input):
        ids = model.tokenizer.prompt(text) if isinstance(text, str) else tuple(text)
        if not ids:
            raise InvalidRequest(f"input[{at}]: got no tokens, expected at least one.", param="input")
        if max(ids) >= vocab:
            raise InvalidRequest(
                f"input[{at}]: got token id {max(ids)}, expected 0 to {vocab - 1}, the model's vocabulary.",
                param="input",
            )
        if len(ids) > model.context:
            raise ContextExceeded(
                f"input[{at}]: got {len(ids)} tokens, expected at most {model.context}; cut the text."
            )
        texts.append(ids)
    return texts


def _written(vector: list[float], form: str | None) -> list[float] | str:
    if form != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
