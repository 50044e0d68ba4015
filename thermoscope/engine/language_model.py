"""The engine as one object: load a model, chat with it, look at the trace."""

import operator
import queue
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch

from thermoscope.catalogue.config import ModelConfig
from thermoscope.engine import upgrade
from thermoscope.engine.engine import Engine
from thermoscope.engine.grammar import Grammar
from thermoscope.engine.request import Request, Sampling
from thermoscope.engine.runner import Runner
from thermoscope.engine.sequence import Delta
from thermoscope.engine.steering import Steering
from thermoscope.engine.trace import FinishReason, Trace
from thermoscope.errors import InvalidRequest
from thermoscope.models.intervention import Add, Lean
from thermoscope.models.kernels.native import cores
from thermoscope.models.model import Model
from thermoscope.models.tokenizer import Tokenizer

Messages = str | Sequence[Mapping[str, Any]]
Steer = Steering | Sequence[Add | Lean]
DEFAULT = "SmolLM2-135M-Instruct"
MOST_THREADS = 255  # the native step's limit; PyTorch takes any number, and starts them all
LONGEST_CACHE = 4096  # tokens of a slot unless more are asked for: all of a long-context model would not fit


@dataclass(frozen=True)
class Reply:
    """The n answers to one prompt; the properties are of the first."""

    traces: list[Trace]

    @property
    def trace(self) -> Trace:
        """Every step of the answer."""
        return self.traces[0]

    @property
    def text(self) -> str:
        """The answer."""
        return self.trace.text

    @property
    def finish_reason(self) -> FinishReason | None:
        """`stop` where the model or a stop string ended it, `length` where the limit did."""
        return self.trace.finish_reason

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.trace.prompt)

    @property
    def completion_tokens(self) -> int:
        """Tokens drawn for all answers."""
        return sum(len(trace.steps) for trace in self.traces)


class LanguageModel:
    """A loaded model with its engine running. Close it, or use it as a context manager."""

    def __init__(self, build: Callable[[], Engine]) -> None:
        self.runner = Runner(build)
        self.context = self.runner.engine.context

    @property
    def model(self) -> Model:
        """What runs; another packing of it may take over while nothing is under way."""
        return self.runner.engine.model

    @property
    def name(self) -> str:
        """The model's name, for people and for the API."""
        return self.model.name

    @property
    def precision(self) -> str:
        """The arithmetic of its matrix products."""
        return self.model.precision

    @property
    def config(self) -> ModelConfig:
        """Its shape."""
        return self.model.config

    @property
    def tokenizer(self) -> Tokenizer:
        """Its words."""
        return self.model.tokenizer

    def chat(
        self, messages: Messages, *, steer: Steer = (), grammar: Grammar | None = None, **sampling: Any
    ) -> Reply:
        """Answer a message or a conversation; `sampling` are the fields of `Sampling`.

        `steer`: vectors added to the residual stream; or such from a file (`engine.steering.load`).
        `grammar`: what the answer must be.
        """
        return self._reply(self.stream_chat(messages, steer=steer, grammar=grammar, **sampling))

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        steer: Steer = (),
        grammar: Grammar | None = None,
        **sampling: Any,
    ) -> Reply:
        """Continue a plain text, or token ids; the rest as in `chat`."""
        return self._reply(self.stream(prompt, steer=steer, grammar=grammar, **sampling))

    def stream_chat(
        self, messages: Messages, *, steer: Steer = (), grammar: Grammar | None = None, **sampling: Any
    ) -> Generator[Delta, None, None]:
        """`chat`, a delta at a time; leaving the loop stops the answer."""
        prompt = self._chat_prompt(messages)
        return self._stream(_request(prompt, steer, grammar, sampling))

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        steer: Steer = (),
        grammar: Grammar | None = None,
        **sampling: Any,
    ) -> Generator[Delta, None, None]:
        """`generate`, a delta at a time; leaving the loop stops the answer."""
        ids = self._text_prompt(prompt)
        return self._stream(_request(ids, steer, grammar, sampling))

    def close(self) -> None:
        """Stop the engine; open requests end with `EngineStopped`."""
        self.runner.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _chat_prompt(self, messages: Messages) -> tuple[int, ...]:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self.tokenizer.chat(messages)

    def _text_prompt(self, prompt: str | Sequence[int]) -> tuple[int, ...]:
        if isinstance(prompt, str):
            return self.tokenizer.prompt(prompt)
        try:
            return tuple(map(operator.index, prompt))
        except TypeError as error:
            raise InvalidRequest(
                f"prompt: got {type(prompt).__name__} ({error}), expected text or token ids.", param="prompt"
            ) from error

    def _reply(self, deltas: Generator[Delta, None, None]) -> Reply:
        traces = [delta.trace for delta in deltas if delta.trace is not None]
        return Reply(sorted(traces, key=lambda trace: trace.choice))

    def _stream(self, request: Request) -> Generator[Delta, None, None]:
        """Submits when the first delta is asked for, so that an iterator never used holds no slot."""
        arrived: queue.SimpleQueue[Delta | Exception] = queue.SimpleQueue()
        ticket, answers = self.runner.submit(request, arrived.put), request.sampling.n
        try:
            while answers:
                item = arrived.get()
                if isinstance(item, Exception):
                    raise item
                answers -= item.finish_reason is not None
                yield item
        finally:
            if answers:
                ticket.cancel()


def load(
    name: str = DEFAULT,
    *,
    precision: str | None = None,
    context: int | None = None,
    slots: int = 8,
    threads: int | None = None,
    progress: bool = False,
) -> LanguageModel:
    """Load a model and start its engine.

    - `name`: the default, a local folder or GGUF file, or a Hugging Face id.
    - `precision`: `fp32`, `fp16`, `bf16`, `int8`, `int4`; None takes the fastest that stays close to fp32.
    - `context`: tokens of a sequence at most; None is the model's own, but no more than 4,096.
    - `slots`: answers decoded at once. `threads`: None is one for each physical core.

    **Errors:** those of `Model.load`.
    """
    for param, value in (("context", context), ("slots", slots), ("threads", threads)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InvalidRequest(f"{param}: got {value}, expected a whole number, 1 or more.", param=param)
    if threads is not None and threads > MOST_THREADS:
        raise InvalidRequest(
            f"threads: got {threads}, expected at most {MOST_THREADS}; leave it out for the best.",
            param="threads",
        )

    team = threads or cores()

    def build() -> Engine:
        torch.set_num_threads(team)
        model = Model.load(
            name, precision=precision, slots=slots, context=context or LONGEST_CACHE, progress=progress
        )
        model.run_on(team)
        longest = model.config.context
        if context is not None and context > longest:
            raise InvalidRequest(
                f"context: got {context}, expected at most {longest}, which {model.name} was trained for.",
                param="context",
            )
        return Engine(model, slots=slots, context=context or min(longest, LONGEST_CACHE))

    loaded = LanguageModel(build)
    upgrade.start(loaded.runner, name, precision=precision, threads=team)
    return loaded


def _request(
    prompt: tuple[int, ...], steer: Steer, grammar: Grammar | None, sampling: dict[str, Any]
) -> Request:
    changes = steer.interventions(len(prompt)) if isinstance(steer, Steering) else tuple(steer)
    return Request(prompt=prompt, sampling=_sampling(sampling), steer=changes, grammar=grammar)


def _sampling(fields: dict[str, Any]) -> Sampling:
    unknown = sorted(fields.keys() - Sampling.__dataclass_fields__.keys())
    if unknown:
        raise InvalidRequest(
            f"{unknown[0]}: no such setting; expected one of {', '.join(Sampling.__dataclass_fields__)}.",
            param=unknown[0],
        )
    if isinstance(fields.get("stop"), str):
        fields = fields | {"stop": (fields["stop"],)}
    return Sampling(**fields)
