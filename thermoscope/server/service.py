"""What every address of the server answers from: the model, under its names, and what stands beside it."""

import asyncio
from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from thermoscope.engine.request import Request
from thermoscope.server.answers import Answers
from thermoscope.server.aside import Aside
from thermoscope.server.logprobs import check_size
from thermoscope.server.metrics import Metrics
from thermoscope.server.names import Names
from thermoscope.server.options import Options
from thermoscope.server.post import Post
from thermoscope.server.traces.store import Traces
from thermoscope.server.watch import Watch

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel


class Service(Names):
    """One loaded model, which answers to its own name and to its aliases.

    `vectors`: what answers may be steered by, by name. `metrics`, `traces`: what is counted, and kept.
    """

    def __init__(self, model: "LanguageModel", options: Options) -> None:
        super().__init__(model.name, options.aliases)
        self.model = model
        model.tokenizer.room = model.context
        self.vectors = options.vectors
        self.max_tokens = options.max_tokens
        self.aside = Aside(model.runner)
        self.metrics = Metrics(model)
        self.traces = Traces(options.keep_traces)
        self._post: Post | None = None

    async def compiled(self, *requests: Request) -> None:
        """Have the grammars of requests compiled, off the event loop; the engine finds them ready.

        **Errors:** `InvalidRequest` for one that cannot be used.
        """
        for request in requests:
            if request.grammar is not None:
                await run_in_threadpool(self.model.runner.compile, request.grammar)

    def answers(
        self,
        *requests: Request,
        client: Hashable = None,
        traced: bool = False,
        max_tokens: int | None = None,
    ) -> Answers:
        """Have the engine answer; the caller iterates, and cancels at the end.

        `client`: who asks, as `client_of` says. `traced`: keep every step. `max_tokens`: of an answer whose
        request names no limit, at this address; None is the server's.

        **Errors:** those of `Runner.submit`, and `InvalidRequest` for more alternatives than can be sent.
        """
        asked = [replace(self._bounded(request, max_tokens), client=client) for request in requests]
        context = self.model.context
        tokens = sum((request.sampling.max_tokens or context) * request.sampling.n for request in asked)
        check_size("thermoscope.top_logprobs", max(request.alternatives for request in asked), tokens)
        watch = Watch(self.metrics, self.traces if traced else None)
        return Answers(self.model.runner, asked, watch, self._way_here())

    def _way_here(self) -> Post:
        """The post to the loop that runs now; an app has one for as long as it is served."""
        if self._post is None or self._post.loop is not asyncio.get_running_loop():
            self._post = Post(asyncio.get_running_loop())
        return self._post

    def _bounded(self, request: Request, max_tokens: int | None) -> Request:
        limit = max_tokens or self.max_tokens
        if request.sampling.max_tokens is not None or limit is None:
            return request
        room = max(1, self.model.context - len(request.prompt))  # where none is left, the engine says so
        return replace(request, sampling=replace(request.sampling, max_tokens=min(limit, room)))
