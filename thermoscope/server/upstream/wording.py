"""The other server's answer as it goes on to the client: complete in OpenAI's form, with what was seen."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from thermoscope.server.upstream.request import Passed
from thermoscope.upstream.logprobs import Choice, Shown, choices
from thermoscope.upstream.trace import Step, Trace


class Wording:
    """One request's answers, at once or in pieces; `traces` holds what was seen of them so far."""

    def __init__(self, passed: Passed, upstream: str) -> None:
        self._passed = passed
        self._upstream = upstream
        self._traces: dict[int, Trace] = {}
        self._last: dict[int, float] = {}
        self._offsets: dict[int, int] = {}

    @property
    def traces(self) -> list[Trace]:
        """In the order of their choices."""
        return [self._traces[index] for index in sorted(self._traces)]

    def reword(self, answer: dict[str, Any], *, streamed: bool) -> dict[str, Any]:
        """The same answer or piece, under the client's name of the model, with nothing missing."""
        for choice in answer.get("choices") or ():
            self._complete(choice, streamed)
        return answer | {"model": self._passed.model}

    def _complete(self, choice: dict[str, Any], streamed: bool) -> None:
        index = choice.setdefault("index", 0)
        message = choice.get("message")
        if isinstance(message, dict):
            message.setdefault("content", None)
            message.setdefault("refusal", None)
        choice.setdefault("finish_reason", None)
        tokens = choices(choice.get("logprobs"))
        if self._passed.looks:
            steps = self._steps(index, tokens, streamed)
            self._follow(index, choice, steps)
            if self._passed.steps:
                choice["thermoscope"] = {"steps": [step.to_dict() for step in steps]}
        choice["logprobs"] = self._logprobs(index, tokens) if self._passed.logprobs and tokens else None

    def _steps(self, index: int, tokens: Sequence[Choice], streamed: bool) -> list[Step]:
        now = time.perf_counter()
        since = self._last.get(index)
        if tokens:
            self._last[index] = now
        ms = round(1000 * (now - since), 3) if streamed and since is not None and len(tokens) == 1 else None
        return [Step(token, self._passed.sight, ms) for token in tokens]

    def _follow(self, index: int, choice: Mapping[str, Any], steps: Sequence[Step]) -> None:
        trace = self._traces.setdefault(
            index,
            Trace(
                self._passed.model, self._upstream, self._passed.sight, self._passed.sampling, choice=index
            ),
        )
        said = choice.get("message") or choice.get("delta") or choice
        trace.text += said.get("content") or said.get("text") or ""
        trace.finish_reason = choice.get("finish_reason") or trace.finish_reason
        trace.steps += steps

    def _logprobs(self, index: int, tokens: Sequence[Choice]) -> dict[str, Any]:
        """What the client asked for, of all that came; in the form of its address, whichever it came in."""
        most = self._passed.alternatives
        if self._passed.chat:
            content = [
                _item(each.chosen) | {"top_logprobs": [_item(other) for other in each.best[:most]]}
                for each in tokens
            ]
            return {"content": content, "refusal": None}
        offsets, offset = [], self._offsets.get(index, 0)
        for each in tokens:
            offsets.append(offset)
            offset += len(each.chosen.text)
        self._offsets[index] = offset
        return {
            "tokens": [each.chosen.text for each in tokens],
            "token_logprobs": [each.chosen.logprob for each in tokens],
            "top_logprobs": [{other.text: other.logprob for other in each.best[:most]} for each in tokens],
            "text_offset": offsets,
        }


def _item(shown: Shown) -> dict[str, Any]:
    plain = shown.to_dict()
    return {"token": plain["text"], "logprob": plain["logprob"], "bytes": plain["bytes"]}
