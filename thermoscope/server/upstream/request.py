"""A client's request in the words that go on to the other server, and what the client asked for beside it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from thermoscope.errors import InvalidRequest
from thermoscope.upstream.abilities import Abilities
from thermoscope.upstream.trace import Sight

MOST = 128  # answers to one request, as OpenAI has it; some servers take any number, and give one
SHOWN = 20  # alternatives of a step, as the local engine has them
HERE = {"steps", "trace"}  # of the fields under `thermoscope` what another server's answer allows

Address = Literal["/chat/completions", "/completions", "/embeddings"]


@dataclass(frozen=True)
class Passed:
    """One request on its way through.

    - `address`, `sent`: what goes on. `model`: the name that the client knows the model by.
    - `logprobs`, `alternatives`: whether the client asked for them itself, and how many. `shown`: how many
      are asked for in the end.
    - `steps`, `traced`: whether the answer carries what was seen of each token, and whether it is kept.
    - `sight`: whose the log-probabilities are. `sampling`: the fields that a trace keeps.
    """

    address: Address
    sent: Mapping[str, Any]
    model: str
    logprobs: bool
    alternatives: int
    shown: int
    steps: bool
    traced: bool
    sight: Sight
    sampling: Mapping[str, Any]

    @property
    def answers(self) -> int:
        """How many choices come of it, as far as the request says."""
        if self.address == "/embeddings":
            return 0
        n, prompt = self.sent.get("n") or 1, self.sent.get("prompt")
        if isinstance(prompt, list) and all(isinstance(each, str | list) for each in prompt):
            prompts = len(prompt)
        else:
            prompts = 1
        return min(n * prompts, MOST) if type(n) is int and n > 0 else 1

    @property
    def chat(self) -> bool:
        """Whether this is a conversation."""
        return self.address == "/chat/completions"

    @property
    def looks(self) -> bool:
        """Whether anybody asked for what can be seen of the tokens."""
        return self.steps or self.traced


def passed(address: Address, body: Mapping[str, Any], abilities: Abilities) -> Passed:
    """What goes on: every field as it came, for the other server to judge, but for `thermoscope`.

    Where steps are asked for, the log-probabilities that they are made of are asked for, too.

    **Errors:** `InvalidRequest` for a field under `thermoscope` that another server cannot honour.
    """
    chat = address == "/chat/completions"
    most = {"/chat/completions": abilities.top_logprobs, "/completions": abilities.completion_logprobs}.get(
        address, 0
    )
    own = _extension(body, most > 0 and (abilities.streamed_logprobs or not body.get("stream")))
    sent = {key: value for key, value in body.items() if key != "thermoscope"} | {"model": abilities.model}
    asked = body.get("top_logprobs") if chat else body.get("logprobs")
    alternatives = asked if isinstance(asked, int) and not isinstance(asked, bool) else 0
    count = max(alternatives, min(SHOWN, most)) if own else alternatives
    if own:
        sent |= {"logprobs": True, "top_logprobs": count} if chat else {"logprobs": count}
    temperature = body.get("temperature")
    return Passed(
        address,
        sent,
        str(body["model"]),
        logprobs=bool(body.get("logprobs")) if chat else body.get("logprobs") is not None,
        alternatives=alternatives,
        shown=count,
        steps="steps" in own,
        traced="trace" in own,
        sight=Sight(
            abilities.logprobs,
            float(temperature) if isinstance(temperature, int | float) else None,
            abilities.vocabulary,
        ),
        sampling={key: value for key, value in sent.items() if key not in ("messages", "prompt", "model")},
    )


def _extension(body: Mapping[str, Any], visible: bool) -> Collection[str]:
    """Which of `HERE` are asked for."""
    given = body.get("thermoscope")
    if given is not None and not isinstance(given, dict):
        raise InvalidRequest("thermoscope: expected an object.", param="thermoscope")
    own = {key: value for key, value in (given or {}).items() if value is not None}
    for key, value in own.items():
        name = f"thermoscope.{key}"
        if key not in HERE:
            raise InvalidRequest(
                f"{name}: needs the local engine, because an upstream samples by itself; leave it out, or "
                "start the server without --upstream.",
                param=name,
            )
        if not isinstance(value, bool):
            raise InvalidRequest(f"{name}: got {value!r}, expected true or false.", param=name)
        if value and not visible:
            raise InvalidRequest(
                f"{name}: needs log-probabilities, and the upstream shows none here; leave it out.",
                param=name,
            )
    return {key for key, value in own.items() if value}
