"""A language model that says what a script tells it to, at the contract's signatures, without torch.

Run as a program it is the command line over that model, for tests that need a process of its own:
`python tests/cli/fakes.py SECONDS_A_TOKEN chat`.
"""

import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import ModuleType, TracebackType
from typing import Any, Self

from thermoscope.engine.request import Sampling
from thermoscope.engine.trace import Alternative, FinishReason, Record, Step, Trace
from thermoscope.errors import ContextExceeded

RECORD = Record(
    logprob=-0.25,
    sampler_logprob=-0.125,
    entropy=1.5,
    log_z=20.0,
    kept=7,
    removed_mass=0.0625,
    alternatives=(
        Alternative(3, " word", -0.25, -0.125),
        Alternative(4, "\n", -2.0, -2.0),
        Alternative(5, "[bold]", -3.0, -3.0),
        Alternative(6, "é", -4.0, float("-inf")),
        Alternative(7, " last", -5.0, float("-inf")),
    ),
)


@dataclass
class Delta:
    choice: int
    text: str
    step: Step
    finish_reason: FinishReason | None = None
    trace: Trace | None = None


class FakeTokenizer:
    """A token a character, so that lengths are easy to see."""

    def prompt(self, text: str) -> tuple[int, ...]:
        return tuple(ord(letter) for letter in text)

    def piece(self, token: int) -> str:
        return f"<{token}>"

    def chat(self, messages: Iterable[Mapping[str, Any]]) -> tuple[int, ...]:
        return self.prompt("".join(f"{each['role']}: {each['content']}\n" for each in messages))


@dataclass
class FakeModel:
    """Echoes the last line of its prompt word by word, and counts on where told to 'count'."""

    name: str = "Fake-1B"
    precision: str = "fp32"
    context: int = 4096
    seconds: float = 0.0
    interrupt_after: int | None = None
    prompts: list[str] = field(default_factory=list)
    settings: list[Sampling] = field(default_factory=list)
    loaded: dict[str, Any] = field(default_factory=dict)
    closed: int = 0
    cancelled: int = 0
    tokenizer: FakeTokenizer = field(default_factory=FakeTokenizer)
    steered: Any = ()

    def load(self, name: str, **how: Any) -> Self:
        self.loaded = {"name": name, **how}
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, frame: TracebackType | None) -> None:
        self.closed += 1

    def stream(
        self, prompt: Sequence[int], *, steer: Any = (), **settings: Any
    ) -> Generator[Delta, None, None]:
        self.steered = steer
        sampling = Sampling(**settings)
        assert sampling.max_tokens is not None
        if len(prompt) + sampling.max_tokens > self.context:
            raise ContextExceeded(f"prompt: got {len(prompt)} tokens, expected fewer than {self.context}.")
        said = "".join(map(chr, prompt))
        self.prompts.append(said)
        self.settings.append(sampling)
        last = said.strip().splitlines()[-1].removeprefix("user: ")
        words = [f" {number}" for number in range(10_000)] if last == "count" else [f" {last}", ".", ""]
        try:
            for choice in range(sampling.n):
                yield from self._choice(choice, tuple(prompt), sampling, words)
        except GeneratorExit:
            self.cancelled += 1
            raise

    def _choice(
        self, choice: int, prompt: tuple[int, ...], sampling: Sampling, words: list[str]
    ) -> Generator[Delta, None, None]:
        trace = Trace(
            model=self.name,
            precision=self.precision,
            prompt=prompt,
            sampling=asdict(sampling) | {"stop": list(sampling.stop), "stop_ids": list(sampling.stop_ids)},
            choice=choice,
            prefill_ms=12.5,
        )
        assert sampling.max_tokens is not None
        for position, word in enumerate(words[: sampling.max_tokens]):
            if position == self.interrupt_after:
                raise KeyboardInterrupt
            time.sleep(self.seconds)
            trace.steps.append(Step(3, word, word.encode(), 4.0, RECORD))
            trace.text += word
            done = position + 1 == min(len(words), sampling.max_tokens)
            if done:
                trace.finish_reason = "stop" if position + 1 == len(words) else "length"
            yield Delta(choice, word, trace.steps[-1], trace.finish_reason, trace if done else None)


def install(model: FakeModel) -> ModuleType:
    """A module that stands where the engine's would; whoever imports `load` from it gets this model."""
    module = ModuleType("thermoscope.engine.language_model")
    module.load = model.load  # type: ignore[attr-defined]
    return module


if __name__ == "__main__":
    from thermoscope.cli import main

    sys.modules["thermoscope.engine.language_model"] = install(FakeModel(seconds=float(sys.argv[1])))
    raise SystemExit(main(sys.argv[2:]))
