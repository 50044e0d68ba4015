"""What a caller may ask of the engine, checked once, here, for every way in."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from thermoscope.engine.grammar import Grammar
from thermoscope.errors import InvalidRequest
from thermoscope.laws.filters import Filters
from thermoscope.laws.profiles import PROFILES, Profile
from thermoscope.laws.ranges import within

if TYPE_CHECKING:  # settings are checked before torch is imported
    from thermoscope.models.intervention import Add, Lean

ALTERNATIVES = 20  # the best tokens that a record holds, as many as OpenAI shows at most


@dataclass(frozen=True, kw_only=True)
class Sampling(Filters):
    """How the next token is chosen, and when to stop: `Filters`, and what stands around them.

    The neutral value of every field changes nothing, so `Sampling()` draws from the model's own
    distribution. `profile` says in which order the stages run, and what they do at the edges; in `openai`,
    Thermoscope's own, it is the order of this list.

    - `profile`: openai, hf, vllm, sglang or llama.cpp, as `laws.profiles` says. A setting that the engine
      lacks is refused.
    - `repetition_penalty`: > 0; divides positive and multiplies negative logits of tokens seen anywhere.
    - `presence_penalty`, `frequency_penalty`: nats subtracted once, and per occurrence in the answer.
    - `dry_multiplier`, `dry_base`, `dry_allowed_length`: nats off what would make a repetition longer, as
      `laws.penalties` says; a multiplier of 0 is off. `dry_breakers`: token ids no repetition reaches across.
    - `logit_bias`: token id -> nats added to its logit.
    - `dynatemp_range`, `dynatemp_exponent`: T follows the entropy within this range around `temperature`.
    - `temperature`: T in [0, inf]. 0 is greedy, inf is uniform over what truncation left.
    - `top_n_sigma`: standard deviations of the logits below the greatest, 0 or more; inf keeps all.
    - `top_k`: how many tokens to keep at most; 0 keeps all.
    - `top_p`: p in [0, 1], mass of the nucleus. 0 keeps one token, 1 keeps all.
    - `min_p`: in [0, 1], the least probability to keep, as a fraction of the best token's.
    - `typical_p`: in [0, 1], mass of the tokens whose surprise is nearest to the entropy; 1 keeps all.
    - `epsilon`: in [0, 1], the least probability to keep. `eta`: the same, less where the entropy is high.
    - `xtc_probability`: how often all tokens above `xtc_threshold` but the least of them are left out.
    - `mirostat_tau`: the mean surprise to steer to, in bits; inf is off. `mirostat_eta`: how fast.
    - `seed`: 64 bits that fix the noise; None draws a fresh one.
    - `stop`: strings that end the answer and are cut from it. `stop_ids`: token ids that do.
    - `max_tokens`: tokens of an answer at most; None is all that the context leaves.
    - `n`: independent answers to one prompt.
    - `ignore_eos`: go on past the model's own end (for measuring).
    """

    profile: str = "openai"
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_breakers: tuple[int, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    max_tokens: int | None = None
    n: int = 1
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        within("repetition_penalty", self.repetition_penalty, 1e-6, 1e6)
        within("presence_penalty", self.presence_penalty, -2.0, 2.0)
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        within("dry_multiplier", self.dry_multiplier, 0.0, 1e6)
        within("dry_base", self.dry_base, 1.0, 1e6)
        within("dry_allowed_length", self.dry_allowed_length, 1, math.inf, whole=True)
        if not isinstance(self.logit_bias, Mapping):
            raise InvalidRequest(
                f"logit_bias: got {self.logit_bias!r}, expected a mapping of token ids to nats.",
                param="logit_bias",
            )
        for token, bias in self.logit_bias.items():
            within("logit_bias", token, 0, math.inf, whole=True)
            within("logit_bias", bias, -100.0, 100.0)
        if self.seed is not None:
            within("seed", self.seed, -(2**63), 2**64 - 1, whole=True)
        if self.max_tokens is not None:
            within("max_tokens", self.max_tokens, 1, math.inf, whole=True)
        within("n", self.n, 1, 128, whole=True)
        for param in ("stop", "stop_ids", "dry_breakers"):
            listed = getattr(self, param)
            if not isinstance(listed, tuple | list):
                raise InvalidRequest(f"{param}: got {listed!r}, expected a list.", param=param)
        if any(not isinstance(text, str) or not text for text in self.stop):
            raise InvalidRequest(
                f"stop: got {list(self.stop)!r}, expected strings that are not empty; leave empty ones out.",
                param="stop",
            )
        for param in ("stop_ids", "dry_breakers"):
            for token in getattr(self, param):
                within(param, token, 0, math.inf, whole=True)
        if not isinstance(self.ignore_eos, bool):
            raise InvalidRequest(
                f"ignore_eos: got {self.ignore_eos!r}, expected true or false.", param="ignore_eos"
            )
        self._check_profile()

    @property
    def filters(self) -> Filters:
        """What truncates, and the temperature, alone."""
        return Filters(**{each.name: getattr(self, each.name) for each in fields(Filters)})

    @property
    def engine(self) -> Profile:
        """What the profile's engine does."""
        return PROFILES[self.profile]

    def _check_profile(self) -> None:
        """Refuse a profile that nobody knows, and a setting that its engine lacks."""
        if not isinstance(self.profile, str) or self.profile not in PROFILES:
            raise InvalidRequest(
                f"profile: got {self.profile!r}, expected one of {', '.join(PROFILES)}.", param="profile"
            )
        self.engine.check(self)
        for param, stage, neutral in _PENALTIES:
            alone = self.engine.mirostat_alone and self.mirostat_tau < math.inf
            if getattr(self, param) != neutral and (alone or stage not in self.engine.adjustments):
                beside = " beside mirostat_tau" if alone else ""
                raise InvalidRequest(
                    f"{param}: got {getattr(self, param)}{beside}, expected {neutral}, for the profile "
                    f"{self.profile} has no such stage there; leave it out, or take the profile openai.",
                    param=param,
                )


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt, ready for the engine.

    `prompt`: token ids, at least one. `record`: whether each step keeps its full record, with so many
    `alternatives`. `background`: let requests of other people go first. `steer`: vectors added to the
    residual stream: an `Add`'s to that of every token, of the prompt as of the answer, a `Lean`'s from its
    first position on. A replay of the answer sees what spoke if it is given the same interventions. `fresh`:
    compute the whole prompt, also what the cache has of it (for measuring). `client`: who asks; slots are
    shared out evenly among those who wait. `timeout`: seconds from its arrival to its last token. `grammar`:
    what every answer must be; one that `max_tokens`, or a stop string or id of the request, cuts short is the
    beginning of such. `shown`: control tokens that stand in the text by their names, as others do not.
    """

    prompt: tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    record: bool = True
    alternatives: int = ALTERNATIVES
    background: bool = False
    steer: "tuple[Add | Lean, ...]" = ()
    grammar: Grammar | None = None
    fresh: bool = False
    client: Hashable = None
    timeout: float = math.inf
    shown: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        within("timeout", self.timeout, 1e-3, math.inf)


_PENALTIES = (
    ("repetition_penalty", "repetition", 1.0),
    ("presence_penalty", "counts", 0.0),
    ("frequency_penalty", "counts", 0.0),
    ("dry_multiplier", "dry", 0.0),
)
