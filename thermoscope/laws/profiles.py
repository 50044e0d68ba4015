r"""How engines sample: which filters each has, in what order, and what each does at the edges.

The same settings keep different tokens on different engines. A profile says what one engine does, stage after
stage, each on what the one before left. Symbols and errors are those of `truncation`.

- `openai` is Thermoscope's own: temperature first, ties to the lower id, nothing more where a sum meets p.
- `hf` is `generate` of transformers 5.24: top-k keeps all ties at its edge, and typical all ties of the
  distance.
- `vllm` is vLLM 0.32 (`v1/sample`, its PyTorch path): min-p before top-k, which keeps all ties at its edge; a
  temperature between 0 and 0.01 is 0.01.
- `sglang` is SGLang 0.5 (`layers/sampler.py`, its PyTorch backend): top-k and the nucleus are cut jointly,
  the nucleus from the distribution that top-k has not touched; it keeps one token more where the sum meets p;
  a temperature below 1e-6 is greedy.
- `llama.cpp` is llama.cpp's default chain: temperature last, so filters see the model's own distribution;
  typical must go beyond its mass; top-n-sigma is off at 0, and what it cuts off still counts in dynamic
  temperature's n; with Mirostat no other filter runs.

In exact arithmetic the sets are those engines'. They leave two things to chance: where a sum meets p to
within rounding, float32 decides; and where tokens tie at the nucleus's edge, a sort that is not stable
decides which of them stay (how many is certain), so that here the lower ids do. A value that an engine
refuses (T = ∞, top_p = 0 in vLLM) is what its formula makes of it, and so is typical after top-n-sigma, which
is NaN in llama.cpp.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann, dynamic_temperature, mirostat, truncation
from thermoscope.laws.filters import Filters

SUMMED = frozenset(("typical_p", "eta"))  # filters that sum over every logit themselves
WHOLE = SUMMED | {"top_n_sigma"}  # filters that need to see every logit


class Cut(NamedTuple):
    """A stage while it runs: ids left, rising, None while all are; their logits; T; what the law answered."""

    name: str
    members: Int[np.ndarray, "kept"] | None
    logits: Float[np.ndarray, "kept"]
    temperature: float
    law: truncation.Kept | None


class Stage(NamedTuple):
    """What one stage did.

    - `name`: "temperature", or the filter's field in `Filters` ("xtc", "mirostat").
    - `kept`: ids that are left, best first; in rising order where all are.
    - `removed`: the share of the probability in front of this stage that it cut off.
    - `logprobs`: log-probabilities of `kept` in the distribution that this stage left, in nats.
    """

    name: str
    kept: Int[np.ndarray, "kept"]
    removed: float
    logprobs: Float[np.ndarray, "kept"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one engine does.

    - `order`: its stages. `adjustments`: what changes logits before them, of "repetition", "counts" (presence
      and frequency), "dry" and "bias". `memory`: how many of the last tokens, the prompt's too, the first two
      look at; None: repetition at all of them, counts at the answer's.
    - `rules`: keywords of `truncation`'s laws, where it ends a set otherwise than they do.
    - `tempered`: the temperature that it takes for an asked one.
    - `off`: values, beside the neutral ones, that turn a filter off. `masks`: filters after which the tokens
      that they cut off still count in dynamic temperature's n, until another filter drops them.
    - `joint`: whether the nucleus is cut from the distribution that top-k has not touched.
    - `mirostat_alone`: whether Mirostat turns the other filters and the penalties off, and is steered by the
      surprise in the distribution that it left instead of the one that it found.
    """

    name: str
    order: tuple[str, ...]
    adjustments: tuple[str, ...]
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tempered: Callable[[float], float] = float
    off: Mapping[str, float] = field(default_factory=dict)
    masks: frozenset[str] = frozenset()
    joint: bool = False
    mirostat_alone: bool = False
    memory: int | None = None

    def apply(
        self, logits: Float[np.ndarray, "vocab"], filters: Filters, *, coin: float = 1.0, mu: float = math.inf
    ) -> tuple[Stage, ...]:
        """The temperature, and every filter that is not neutral, in their order.

        `coin`: a number in [0, 1); XTC runs if it is below `xtc_probability`. `mu`: Mirostat's, in bits.

        **Errors:** `InvalidRequest` for a filter that the engine lacks; then those of `truncation`.
        """
        self.check(filters)
        logits = boltzmann.checked(logits)
        stages, before = [], len(logits)
        for cut in self.cuts(logits, filters, coin=coin, mu=mu):
            kept = np.arange(len(logits)) if cut.members is None else cut.members
            if len(kept) < len(logits):
                kept = truncation.ranked(logits, kept)
            removed = 0.0 if cut.law is None or len(kept) == before else cut.law.removed
            logprobs = boltzmann.log_probabilities(logits[kept], cut.temperature)
            stages.append(Stage(cut.name, kept, removed, logprobs))
            before = len(kept)
        return tuple(stages)

    def active(self, filters: Filters) -> dict[str, str]:
        """Those of `Filters.active` that this engine does not take for off either."""
        return {
            stage: param
            for stage, param in filters.active.items()
            if getattr(filters, param) != self.off.get(stage)
        }

    def check(self, filters: Filters) -> None:
        """Raise `InvalidRequest` for a filter that this engine lacks, or does not run beside another."""
        for stage, param in self.active(filters).items():
            if stage not in self.order:
                raise InvalidRequest(
                    f"{param}: got {getattr(filters, param)}, expected none, for the profile {self.name} has "
                    "no such stage; leave it out, or take the profile openai.",
                    param=param,
                )
            if self.mirostat_alone and stage != "mirostat" and "mirostat" in filters.active:
                raise InvalidRequest(
                    f"{param}: got {getattr(filters, param)} beside mirostat_tau, expected none, for with "
                    f"Mirostat {self.name} runs nothing else; leave one of them out.",
                    param=param,
                )

    def cuts(
        self,
        logits: Float[np.ndarray, "vocab"],
        filters: Filters,
        *,
        coin: float = 1.0,
        mu: float = math.inf,
        mass: float | None = None,
        laws: Mapping[str, Callable[..., truncation.Kept]] = MappingProxyType({}),
        entropy: dynamic_temperature.Entropy = dynamic_temperature.entropy,
    ) -> Iterator[Cut]:
        """`apply` for the sampler, with nothing ranked or summed that it may not need.

        `mass`: of the whole distribution at the first filter's temperature, where it is known. With it,
        `logits` may be only the greatest, unless the first filter is one of `WHOLE`. `laws`, by a filter's
        name, and `entropy`: who computes them instead.
        """
        values = {
            name: getattr(filters, name) for name, param in self.active(filters).items() if name == param
        }
        if coin < filters.xtc_probability:
            values["xtc"] = filters.xtc_threshold
        if mu < math.inf:
            values["mirostat"] = mirostat.cutoff(mu)
        members, temperature, z, masked = None, 1.0, logits, 0
        for name in self.order:
            if name == "temperature":
                temperature = self.temperature(z, filters, masked, entropy)
                if temperature == 0:
                    best = np.array([z.argmax()])
                    members, z, mass = best if members is None else members[best], z[best], None
                yield Cut(name, members, z, temperature, None)
            elif name in values:
                known = {} if name in SUMMED else {"mass": mass}
                apply = laws.get(name) or LAWS[name]
                law = apply(z, values[name], temperature, **known, **self.rules.get(name, {}))
                members = law.members if members is None else members[law.members]
                if self.joint and name == "top_k":  # what it was given is what the nucleus is a part of
                    mass = float(boltzmann.weights(z, temperature).sum()) if mass is None else mass
                else:
                    if self.joint and "top_k" in values:
                        law = replace(law, mass=None)  # and yet it removed a share of what top-k had left
                    mass = None
                if name in self.masks:
                    masked = len(z) - len(law.members)
                elif name == "top_k":  # k includes them
                    masked = min(masked, values[name] - len(law.members))
                elif name != "xtc":  # which takes from the top
                    masked = 0
                z = z[law.members]
                yield Cut(name, members, z, temperature, law)

    def temperature(
        self,
        logits: Float[np.ndarray, "some"],
        filters: Filters,
        masked: int = 0,
        entropy: dynamic_temperature.Entropy = dynamic_temperature.entropy,
    ) -> float:
        """T at its stage, for the logits that reach it, and how many more the engine has there at -inf."""
        asked = self.tempered(filters.temperature)
        if filters.dynatemp_range == 0:
            return asked
        return dynamic_temperature.temperature(
            logits, asked, filters.dynatemp_range, filters.dynatemp_exponent, masked=masked, entropy=entropy
        )

    def opening(self, filters: Filters) -> tuple[str | None, float | None]:
        """The first filter, and the temperature at which it looks; without a filter, that of the draw.

        None for no filter, and for a temperature that the logits have a say in.
        """
        active = set(self.active(filters)) - {"dynatemp"}
        temperature: float | None = 1.0
        for name in self.order:
            if name in active:
                return name, temperature
            if name == "temperature":
                temperature = None if filters.dynatemp_range else self.tempered(filters.temperature)
        return None, temperature


LAWS: Mapping[str, Callable[..., truncation.Kept]] = {
    "top_n_sigma": truncation.top_n_sigma,
    "top_k": truncation.top_k,
    "typical_p": truncation.typical,
    "top_p": truncation.nucleus,
    "min_p": truncation.min_p,
    "epsilon": truncation.epsilon,
    "eta": truncation.eta,
    "xtc": truncation.xtc,
    "mirostat": truncation.epsilon,
}

_WITH_TIES = {"ties": "all"}
_BEYOND = {"beyond": True}

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(
                name="openai",
                adjustments=("repetition", "counts", "dry", "bias"),
                order=(
                    "dynatemp",
                    "temperature",
                    "top_n_sigma",
                    "top_k",
                    "top_p",
                    "min_p",
                    "typical_p",
                    "epsilon",
                    "eta",
                    "xtc",
                    "mirostat",
                ),
            ),
            Profile(
                name="hf",
                adjustments=("bias", "repetition"),
                order=("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon", "eta"),
                rules={"top_k": _WITH_TIES, "typical_p": _WITH_TIES},
            ),
            Profile(
                name="vllm",
                adjustments=("bias", "repetition", "counts"),
                order=("temperature", "min_p", "top_k", "top_p"),
                rules={"top_k": _WITH_TIES},
                tempered=lambda asked: max(asked, 0.01) if asked else 0.0,
            ),
            Profile(
                name="sglang",
                adjustments=("counts", "repetition", "bias"),
                order=("temperature", "top_k", "top_p", "min_p"),
                rules={"top_p": _BEYOND},
                tempered=lambda asked: asked if asked >= 1e-6 else 0.0,
                joint=True,
            ),
            Profile(
                name="llama.cpp",
                adjustments=("bias", "repetition", "counts", "dry"),
                order=(
                    "top_n_sigma",
                    "top_k",
                    "typical_p",
                    "top_p",
                    "min_p",
                    "xtc",
                    "dynatemp",
                    "temperature",
                    "mirostat",
                ),
                rules={"typical_p": _BEYOND},
                off={"top_n_sigma": 0.0},
                masks=frozenset(("top_n_sigma",)),
                mirostat_alone=True,
                memory=64,
            ),
        )
    }
)
