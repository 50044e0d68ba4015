"""The other server's answer as it goes on to the client: complete in OpenAI's form, with what was seen."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from thermoscope.errors import InvalidRequest, UpstreamFailed
from thermoscope.server.traces.store import Traces
from thermoscope.server.upstream.request import Passed
from thermoscope.upstream.logprobs import Choice, Shown, choices
from thermoscope.upstream.trace import Piece, Step, Trace


class Wording:
    """One request's answers, at once or in pieces. `keeper` keeps what was seen of them, if that is asked."""

    def __init__(self, passed: Passed, upstream: str, keeper: Traces) -> None:
        self._passed = passed
        self._keeper = keeper
        self._seen = [
            Trace(passed.model, upstream, passed.sight, passed.sampling, choice=choice)
            for choice in range(passed.answers)
        ]
        self._trace = keeper.begin(self._seen) if passed.traced else None
        self._last: dict[int, float] = {}
        self._offsets: dict[int, int] = {}

    @property
    def tag(self) -> dict[str, Any]:
        """What the answer says beside its choices: under which id a trace is kept."""
        return {} if self._trace is None else {"thermoscope": {"trace": self._trace}}

    def end(self) -> None:
        """Nothing more comes."""
        if self._trace is not None:
            self._keeper.end(self._trace)

    def reword(self, answer: dict[str, Any], *, streamed: bool) -> dict[str, Any]:
        """The same answer or piece, under the client's name of the model, with nothing missing."""
        try:
            for choice in answer.get("choices") or ():
                self._complete(choice, streamed)
        except (AttributeError, TypeError, ValueError, InvalidRequest) as error:  # not the client's mistake
            raise UpstreamFailed(
                f"upstream: got an answer that cannot be read ({error}), expected OpenAI's form."
            ) from None
        return answer | {"model": self._passed.model} | self.tag

    def _complete(self, choice: dict[str, Any], streamed: bool) -> None:
        index = choice.setdefault("index", 0)
        if type(index) is not int:
            raise TypeError(f"index: got {index!r}")
        message = choice.get("message")
        if isinstance(message, dict):
            message.setdefault("content", None)
            message.setdefault("refusal", None)
        choice.setdefault("finish_reason", None)
        tokens = choices(choice.get("logprobs"), self._passed.shown)
        if self._passed.looks:
            steps = self._steps(index, tokens, streamed)
            if self._trace is not None:
                self._keep(self._trace, index, choice, steps)
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

    def _keep(self, trace: str, index: int, choice: Mapping[str, Any], steps: Sequence[Step]) -> None:
        if index >= len(self._seen):  # more answers than were asked for
            return
        said = choice.get("message") or choice.get("delta") or choice
        text = said.get("content") or said.get("text") or ""
        self._seen[index].text += text
        for at, step in enumerate(steps, 1):
            self._keeper.add(trace, Piece(index, text if at == len(steps) else "", step), lambda _: None)
        if choice.get("finish_reason") is not None:
            self._seen[index].finish_reason = str(choice["finish_reason"])
            self._keeper.finish(trace, replace(self._seen[index]))

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
