"""One request and what came of it, so that an interrupted answer is kept as a whole one is."""

import dataclasses
import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermoscope.cli.options import DEFAULT_TOKENS
from thermoscope.errors import InvalidRequest

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.engine.request import Sampling
    from thermoscope.engine.sequence import Delta
    from thermoscope.engine.steering import Steering
    from thermoscope.engine.trace import Step, Trace


class Answer:
    """The answer to one prompt: `texts`, one for each of n choices, and their traces.

    The seed is drawn here where none was given, and `max_tokens` is set to what is sensible, so that the
    settings of an answer are known also where the engine never came to say them.
    """

    def __init__(
        self,
        model: "LanguageModel",
        prompt: Sequence[int],
        sampling: "Sampling",
        steering: "Steering | None" = None,
    ) -> None:
        left = max(1, model.context - len(prompt))  # the engine refuses a prompt that leaves nothing
        self.sampling = dataclasses.replace(
            sampling,
            seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
            max_tokens=min(DEFAULT_TOKENS, left) if sampling.max_tokens is None else sampling.max_tokens,
        )
        self.prompt = tuple(prompt)
        self.texts = [""] * sampling.n
        self.interrupted = False
        self._model = model
        self._steer = () if steering is None else steering.interventions(len(self.prompt))
        self._steps: list[list[Step]] = [[] for _ in range(sampling.n)]
        self._whole: list[Trace | None] = [None] * sampling.n
        self._prefill_ms = 0.0

    def stream(self, show: Callable[["Delta"], None]) -> None:
        """Run to the end, or to Ctrl-C, handing each piece to `show` as it comes."""
        settings = {
            field.name: getattr(self.sampling, field.name) for field in dataclasses.fields(self.sampling)
        }
        began = time.perf_counter()
        try:
            deltas = self._model.stream(self.prompt, steer=self._steer, **settings)
            with closing(deltas):  # frees the slot also where Ctrl-C ended the loop
                for delta in deltas:
                    self._prefill_ms = self._prefill_ms or 1e3 * (time.perf_counter() - began)
                    self.texts[delta.choice] += delta.text
                    self._steps[delta.choice].append(delta.step)
                    self._whole[delta.choice] = delta.trace
                    show(delta)
        except KeyboardInterrupt:
            self.interrupted = True

    @property
    def traces(self) -> list["Trace"]:
        """A trace for each choice; one that was interrupted has no finish reason."""
        from thermoscope.engine.trace import Trace
        from thermoscope.models.intervention import fingerprint

        # As JSON gives it back, so that a saved trace loads equal.
        sampling = json.loads(json.dumps(dataclasses.asdict(self.sampling)))
        return [
            whole
            or Trace(
                model=self._model.name,
                precision=self._model.precision,
                prompt=self.prompt,
                sampling=sampling,
                choice=choice,
                text=self.texts[choice],
                prefill_ms=self._prefill_ms,
                steps=self._steps[choice],
                steered=fingerprint(self._steer),
            )
            for choice, whole in enumerate(self._whole)
        ]

    def to_dict(self, *, paths: Sequence[Path] = (), steps: bool = False) -> dict[str, Any]:
        """What `--json` prints; with n > 1 the first choice at the top, and all of them in `choices`.

        `paths`: where the traces were saved. `steps`: put every step in.
        """
        traces = self.traces
        choices: list[dict[str, Any]] = [
            {"text": trace.text, "finish_reason": trace.finish_reason} for trace in traces
        ]
        for choice, path in zip(choices, paths, strict=False):
            choice["trace"] = str(path)
        if steps:
            for choice, trace in zip(choices, traces, strict=True):
                choice["steps"] = trace.to_dict()["steps"]
        tokens = sum(len(trace.steps) for trace in traces)
        plain = {
            "model": self._model.name,
            "precision": self._model.precision,
            "usage": {
                "prompt_tokens": len(self.prompt),
                "completion_tokens": tokens,
                "total_tokens": len(self.prompt) + tokens,
            },
            "timings": {
                "prefill_ms": round(traces[0].prefill_ms, 3),
                "tokens_per_second": tokens_per_second(traces),
            },
            "seed": self.sampling.seed,
        }
        return choices[0] | plain | ({"choices": choices} if len(choices) > 1 else {})


def tokens_per_second(traces: Sequence["Trace"]) -> float | None:
    """Tokens a second of all choices together, without the first, which waits for the prompt."""
    later = [[step.ms for step in trace.steps[1:]] for trace in traces]
    longest = max((sum(times) for times in later), default=0.0)
    return round(1e3 * sum(map(len, later)) / longest, 2) if longest > 0 else None


def check_writable(path: Path) -> None:
    """Refuse a place where no file can come to stand, before an answer is made for it."""
    if path.exists() and not path.is_file():  # a folder, or a device that saving would put a file in place of
        raise InvalidRequest(f"{path}: got no regular file, expected the name of a file to write.")
    if not path.parent.is_dir():
        raise InvalidRequest(f"{path}: the folder {path.parent} does not exist; create it first.")
    if not os.access(path.parent, os.W_OK):
        raise InvalidRequest(f"{path}: the folder {path.parent} cannot be written; choose another.")


def save_traces(answer: Answer, path: Path) -> list[Path]:
    """Save every choice's trace, whole or not at all; with n > 1 as name.0.json, name.1.json, …"""
    paths = (
        [path.resolve()]
        if len(answer.traces) == 1
        else [path.with_name(f"{path.stem}.{trace.choice}{path.suffix}").resolve() for trace in answer.traces]
    )
    for trace, target in zip(answer.traces, paths, strict=True):
        trace.save(target)
    return paths
