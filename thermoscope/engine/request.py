"""What a caller may ask of the engine, checked once, here, for every way in."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from thermoscope.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen, and when to stop.

    The neutral value of every field changes nothing, so `Sampling()` draws from the model's own
    distribution. Stages run in the order penalties, bias, temperature, truncation.

    - `temperature`: T in [0, inf]. 0 is greedy, inf is uniform over what truncation left.
    - `top_p`: p in [0, 1], mass of the nucleus. 0 keeps one token, 1 keeps all.
    - `top_k`: how many tokens to keep at most; 0 keeps all.
    - `min_p`: in [0, 1], the least probability to keep, as a fraction of the best token's.
    - `repetition_penalty`: > 0; divides positive and multiplies negative logits of tokens seen anywhere.
    - `presence_penalty`, `frequency_penalty`: nats subtracted once, and per occurrence in the answer.
    - `logit_bias`: token id -> nats added to its logit.
    - `seed`: 64 bits that fix the noise; None draws a fresh one.
    - `stop`: strings that end the answer and are cut from it. `stop_ids`: token ids that do.
    - `max_tokens`: tokens of an answer at most; None is all that the context leaves.
    - `n`: independent answers to one prompt.
    - `ignore_eos`: go on past the model's own end (for measuring).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    max_tokens: int | None = None
    n: int = 1
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        _within("temperature", self.temperature, 0.0, math.inf)
        _within("top_p", self.top_p, 0.0, 1.0)
        _within("top_k", self.top_k, 0, math.inf, whole=True)
        _within("min_p", self.min_p, 0.0, 1.0)
        _within("repetition_penalty", self.repetition_penalty, 1e-6, 1e6)
        _within("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        if not isinstance(self.logit_bias, Mapping):
            raise InvalidRequest(
                f"logit_bias: got {self.logit_bias!r}, expected a mapping of token ids to nats.",
                param="logit_bias",
            )
        for token, bias in self.logit_bias.items():
            _within("logit_bias", token, 0, math.inf, whole=True)
            _within("logit_bias", bias, -100.0, 100.0)
        if self.seed is not None:
            _within("seed", self.seed, -(2**63), 2**64 - 1, whole=True)
        if self.max_tokens is not None:
            _within("max_tokens", self.max_tokens, 1, math.inf, whole=True)
        _within("n", self.n, 1, 128, whole=True)
        for param, listed in (("stop", self.stop), ("stop_ids", self.stop_ids)):
            if not isinstance(listed, tuple | list):
                raise InvalidRequest(f"{param}: got {listed!r}, expected a list.", param=param)
        if any(not isinstance(text, str) or not text for text in self.stop):
            raise InvalidRequest(
                f"stop: got {list(self.stop)!r}, expected strings that are not empty; leave empty ones out.",
                param="stop",
            )
        for token in self.stop_ids:
            _within("stop_ids", token, 0, math.inf, whole=True)
        if not isinstance(self.ignore_eos, bool):
            raise InvalidRequest(
                f"ignore_eos: got {self.ignore_eos!r}, expected true or false.", param="ignore_eos"
            )


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt, ready for the engine.

    `prompt`: token ids, at least one. `record`: whether each step keeps its full record. `background`: let
    requests of other people go first.
    """

    prompt: tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    record: bool = True
    background: bool = False


def _within(param: str, value: float, low: float, high: float, *, whole: bool = False) -> None:
    """Refuse a value that is no number, not whole where it must be, or out of [low, high]."""
    kind = "a whole number" if whole else "a number"
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        upper = f"to {high:g}" if math.isfinite(high) else "or more"
        raise InvalidRequest(f"{param}: got {value!r}, expected {kind}, {low:g} {upper}.", param=param)
