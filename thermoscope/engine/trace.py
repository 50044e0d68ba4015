"""What the engine saw while it spoke: a `Step` for each token, a `Trace` for each answer.

Everything here was in hand when the token was chosen. What needs another look at the model (hidden
states, attention) comes from `engine.replay`.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, overload

import numpy as np
from jaxtyping import Bool, Float, Int

from thermoscope.errors import BadModelFile, InvalidRequest

FinishReason = Literal["stop", "length"]
FORMAT = 1


class Alternative(NamedTuple):
    """A token that could have been chosen. Log-probabilities in nats; -inf where it was cut off."""

    token: int
    text: str
    logprob: float
    sampler_logprob: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "token": self.token,
            "text": self.text,
            "logprob": _number(self.logprob),
            "sampler_logprob": _number(self.sampler_logprob),
        }


class Drawn(NamedTuple):
    """The distribution that a token was drawn from, as far as the probability of a kept one takes it.

    `greatest`: the largest logit that was kept. `mass`: Σ exp((z − greatest) / T) over what was kept.
    """

    temperature: float
    greatest: float
    mass: float

    def logprob(self, z: float) -> float:
        """Log-probability of a token that was kept and has this logit. At T = 0 there is only one."""
        if self.temperature == 0:
            return 0.0
        return (z - self.greatest) / self.temperature - math.log(self.mass)


class Alternatives(Sequence[Alternative]):
    """Alternatives that become objects when somebody looks: most tokens of an answer are never opened.

    - `ids`: best first. `logits`: the model's own. `asked`: those that were drawn from, after penalties and
      bias. `log_z`: of the model's own. `drawn`: what was drawn from. `kept`: which of them that holds; None
      for all. `piece`: a token's text.
    """

    __slots__ = ("_asked", "_drawn", "_ids", "_kept", "_log_z", "_logits", "_piece")

    def __init__(
        self,
        ids: Int[np.ndarray, "best"],
        logits: Float[np.ndarray, "best"],
        asked: Float[np.ndarray, "best"],
        log_z: float,
        drawn: Drawn,
        kept: Bool[np.ndarray, "best"] | None,
        piece: Callable[[int], str],
    ) -> None:
        self._ids = ids
        self._logits = logits
        self._asked = asked
        self._log_z = log_z
        self._drawn = drawn
        self._kept = kept
        self._piece = piece

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, at: int) -> Alternative: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Alternative, ...]: ...
    def __getitem__(self, at: int | slice) -> Alternative | tuple[Alternative, ...]:
        if isinstance(at, slice):
            return tuple(map(self._alternative, *self._columns(at)))
        at = range(len(self))[at]
        return next(map(self._alternative, *self._columns(slice(at, at + 1))))

    def __iter__(self) -> Iterator[Alternative]:
        return map(self._alternative, *self._columns(slice(None)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __reduce__(self) -> tuple[type, tuple[tuple[Alternative, ...]]]:
        return tuple, (tuple(self),)  # a copy needs no tokenizer

    def _columns(self, some: slice) -> tuple[Iterable[Any], ...]:
        """As Python's own numbers, all at once: a number at a time out of an array takes twice as long."""
        kept = repeat(True) if self._kept is None else self._kept[some].tolist()
        return self._ids[some].tolist(), self._logits[some].tolist(), self._asked[some].tolist(), kept

    def _alternative(self, token: int, logit: float, asked: float, kept: bool) -> Alternative:
        sampled = self._drawn.logprob(asked) if kept else -math.inf
        return Alternative(token, self._piece(token), logit - self._log_z, sampled)


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a grammar's mask did to the model's own distribution, at T = 1 and before anything else.

    - `allowed`: tokens that it left. `work`: −log of the probability that it left them, in nats.
    """

    allowed: int
    work: float

    @property
    def removed_mass(self) -> float:
        """The probability that the mask took away."""
        return -math.expm1(-self.work)


@dataclass(frozen=True, slots=True)
class Record:
    """The distribution that one token was drawn from. All logarithms are natural.

    - `logprob`: log-probability of the chosen token in the model's own distribution (T = 1, nothing cut).
    - `sampler_logprob`: the same in the distribution that was drawn from.
    - `entropy`: of the model's own distribution, nats.
    - `log_z`: log of the sum of exp(logit): moves when a constant is added to the logits.
    - `kept`: tokens that truncation left.
    - `removed_mass`: probability that truncation cut off, after penalties and bias, at the temperature that
      it saw; where a grammar's mask went before, of what that had left.
    - `alternatives`: the 20 best by the model's own distribution, best first; or as many as were asked for.
    - `constraint`: what a grammar's mask did; None without one.
    """

    logprob: float
    sampler_logprob: float
    entropy: float
    log_z: float
    kept: int
    removed_mass: float
    alternatives: Sequence[Alternative]
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One chosen token.

    `text` is what this token completes: empty while a UTF-8 character is still open, so the texts of
    all steps join to the whole text. `bytes` are the token's own. `ms` is the time since the step before.
    """

    token: int
    text: str
    bytes: bytes
    ms: float
    record: Record | None = None

    def to_dict(self, *, alternatives: bool = True) -> dict[str, Any]:
        """Plain JSON values, the record's fields beside the token's own, with its alternatives or without."""
        plain: dict[str, Any] = {
            "token": self.token,
            "text": self.text,
            "bytes": list(self.bytes),
            "ms": self.ms,
        }
        if self.record is not None:
            plain |= {
                "logprob": _number(self.record.logprob),
                "sampler_logprob": _number(self.record.sampler_logprob),
                "entropy": self.record.entropy,
                "log_z": self.record.log_z,
                "kept": self.record.kept,
                "removed_mass": self.record.removed_mass,
            }
            if (constraint := self.record.constraint) is not None:
                plain["constraint"] = {
                    "allowed": constraint.allowed,
                    "removed_mass": constraint.removed_mass,
                    "work": constraint.work,
                }
            if alternatives:
                plain["alternatives"] = [other.to_dict() for other in self.record.alternatives]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        record = None
        constraint = plain.get("constraint") and Constraint(
            plain["constraint"]["allowed"], plain["constraint"]["work"]
        )
        if "logprob" in plain:
            record = Record(
                logprob=float(plain["logprob"]),
                sampler_logprob=float(plain["sampler_logprob"]),
                entropy=plain["entropy"],
                log_z=plain["log_z"],
                kept=plain["kept"],
                removed_mass=plain["removed_mass"],
                alternatives=tuple(
                    Alternative(
                        other["token"],
                        other["text"],
                        float(other["logprob"]),
                        float(other["sampler_logprob"]),
                    )
                    for other in plain["alternatives"]
                ),
                constraint=constraint,
            )
        return cls(plain["token"], plain["text"], bytes(plain["bytes"]), plain["ms"], record)


@dataclass(kw_only=True)
class Trace:
    """One answer and how it came about.

    - `model`, `precision`: what spoke. `prompt`: token ids that it was given.
    - `sampling`: the settings, with the seed that was used. `choice`: which of the n answers this is.
    - `grammar`: what the answer was held to, as `Grammar`'s fields; None for nothing.
    - `text`: the answer as shown, after stop strings were cut. `steps`: every token that was drawn.
    - `prefill_ms`: from the request's start to its first logits. `cached_tokens`: of the prompt, those whose
      keys and values were there already.
    - `steered`: the fingerprint of the vectors that were added (`models.intervention`); None where none was.
    """

    model: str
    precision: str
    prompt: tuple[int, ...]
    sampling: dict[str, Any]
    choice: int = 0
    grammar: dict[str, str] | None = None
    text: str = ""
    finish_reason: FinishReason | None = None
    prefill_ms: float = 0.0
    cached_tokens: int = 0
    steps: list[Step] = field(default_factory=list)
    steered: str | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        """The answer's token ids."""
        return tuple(step.token for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a number that JSON lacks is the string "inf" or "-inf"."""
        return {
            "format": FORMAT,
            **{field.name: getattr(self, field.name) for field in fields(self) if field.name != "steps"},
            "prompt": list(self.prompt),
            "sampling": {
                key: _number(value) if isinstance(value, float) else value
                for key, value in self.sampling.items()
            },
            "steps": [step.to_dict() for step in self.steps],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        if plain.get("format") != FORMAT:
            raise InvalidRequest(
                f"trace: got format {plain.get('format')!r}, expected {FORMAT}; save it again."
            )
        known = {key: value for key, value in plain.items() if key != "format"}
        known["prompt"] = tuple(plain["prompt"])
        known["sampling"] = {
            key: float(value) if value in ("inf", "-inf") else value
            for key, value in plain["sampling"].items()
        }
        known["steps"] = [Step.from_dict(step) for step in plain["steps"]]
        return cls(**known)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one JSON file; the old one stays whole if writing fails."""
        target = Path(path)
        part = target.with_name(target.name + ".part")
        try:
            part.write_text(json.dumps(self.to_dict(), ensure_ascii=False), encoding="utf-8")
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; equal to what was saved.

        **Errors:** `BadModelFile` for a file that is missing, broken or no trace.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except InvalidRequest as error:
            raise BadModelFile(f"{path}: {error}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise BadModelFile(f"{path}: got {detail}, expected a trace that Thermoscope saved.") from error


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
