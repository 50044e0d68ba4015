"""What another server can do."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Meaning = Literal["raw", "tempered", "unknown"]
"""Whose log-probabilities they are: of the model's own distribution, or of that at the request's T."""


@dataclass(frozen=True)
class Abilities:
    """One model of a server.

    - `server`: what it says it is. `context`, `vocabulary`: in tokens, None where it does not say.
    - `chat`, `completions`: whether the two addresses answer.
    - `top_logprobs`, `completion_logprobs`: alternatives that each gives at most, of those asked for.
    - `logprobs`: of what distribution they are. `streamed_logprobs`: whether a stream carries them, too.
    - `n`: whether several answers come of one request. `seed`: whether one seed gives one text.
    - `tools`: the values of `tool_choice` that made it call one.
    """

    model: str
    server: str
    context: int | None
    vocabulary: int | None
    chat: bool
    completions: bool
    top_logprobs: int
    completion_logprobs: int
    logprobs: Meaning
    streamed_logprobs: bool
    n: bool
    seed: bool
    tools: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def summary(self) -> str:
        """One line for people."""
        shown = max(self.top_logprobs, self.completion_logprobs)
        seen = f"logprobs {self.logprobs}, {shown} at most" if shown else "no logprobs"
        switches = {
            "chat": self.chat, "completions": self.completions, "logprobs in streams": self.streamed_logprobs,
            "n": self.n, "seed": self.seed, "tools": bool(self.tools),
        }  # fmt: skip
        missing = [name for name, there in switches.items() if not there]
        sizes = [
            f"{name} {'unknown' if size is None else size}"
            for name, size in (("context", self.context), ("vocabulary", self.vocabulary))
        ]
        return "; ".join(
            [f"{self.model} ({self.server}): {seen}", *sizes, *(f"no {each}" for each in missing)]
        )
