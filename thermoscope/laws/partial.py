r"""A distribution of which only the most probable tokens are known: what it is like, as bounds.

Definition. A server tells $\log p_i$ of the $k$ most probable of $V$ tokens at $T = 1$. The others have the
mass $u = 1 - \sum_{i \le k} p_i$ together and at most $p_k$ each. At a temperature $T$ the known ones have
the weights $w_i = (p_i / p_1)^{1/T}$, which sum to $A$; the others' sum
$R = \sum_{j > k} (p_j / p_1)^{1/T}$ has

$$R_\text{few} = n\,w_k + \left(\frac{u - n p_k}{p_1}\right)^{1/T},\ n = \lfloor u / p_k \rfloor, \qquad
R_\text{even} = (V - k) \left(\frac{u}{(V - k)\,p_1}\right)^{1/T}$$

for its ends: all of $u$ on as few tokens as can hold it, and spread over all there are. Of two vectors with
one sum and one cap the first majorises all others and the second is majorised by all, so every sum of a
convex function of the $p_j$ ($T < 1$) or of a concave one ($T > 1$, the entropy) lies between the two.

Symbols: `log_p` are $\log p_i$, in nats, [known]; `vocabulary` is $V$, None where nobody said it, and then
what is spread has no end: an upper bound may be ∞. `rounding` is the greatest error of a $\log p_i$.

Errors: `InvalidRequest` for log-probabilities that are none (NaN, or a sum above 1), for a vocabulary that
cannot hold what is unseen, and for a temperature or p out of range.

Source: Marshall, Olkin & Arnold 2011, "Inequalities: Theory of Majorization and Its Applications", chapter 3.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann
from thermoscope.laws.ranges import within
from thermoscope.laws.truncation import EQUAL

ROUNDING = 1e-5  # nats; of a log-softmax in float32, whose logits are some tens of nats
OVER = 1e-3  # by which a sum of probabilities may pass 1: half precision does


class Bounds(NamedTuple):
    """The least and the greatest that a number can be, both included."""

    low: float
    high: float


@dataclass(frozen=True)
class Partial:
    """The `log_p` of the most probable tokens, best first, at T = 1; what the fields are says the module."""

    log_p: Float[np.ndarray, "known"]
    vocabulary: int | None = None
    rounding: float = ROUNDING

    def __post_init__(self) -> None:
        log_p = -np.sort(-np.asarray(self.log_p, dtype=np.float64))
        object.__setattr__(self, "log_p", log_p)
        if log_p.ndim != 1 or not len(log_p) or not log_p[0] > -np.inf:
            raise InvalidRequest(
                f"log_p: got shape {log_p.shape}, expected a row with a probability above 0.", param="log_p"
            )
        known = math.fsum(np.exp(log_p).tolist())
        if not known <= 1 + OVER:
            raise InvalidRequest(
                f"log_p: got probabilities with the sum {known:g}, expected at most 1, in logarithms.",
                param="log_p",
            )
        if self.vocabulary is not None and (
            self.vocabulary < len(log_p) or 1 - known > self.room * self._cap + OVER
        ):
            raise InvalidRequest(
                f"vocabulary: got {self.vocabulary} tokens, expected more: {len(log_p)} are known, and the "
                f"others share {1 - known:.3g} with at most {self._cap:.3g} each.",
                param="vocabulary",
            )

    @property
    def room(self) -> float:
        """How many tokens are unseen: V − k, ∞ where V is not known."""
        return math.inf if self.vocabulary is None else self.vocabulary - len(self.log_p)

    @cached_property
    def unseen(self) -> Bounds:
        """$u$, the probability of all tokens that are not known."""
        left = 1 - math.fsum(np.exp(self.log_p).tolist())
        most = self.room * self._cap if self._cap else 0.0
        low, high = (min(max(0.0, left + error), most) for error in (-self.rounding, self.rounding))
        return Bounds(low, high)

    @property
    def _cap(self) -> float:
        return math.exp(self.log_p[-1])

    def at(self, temperature: float) -> "Tempered":
        """The same at a temperature, 0 to ∞."""
        boltzmann.check_temperature(temperature)
        return Tempered(self, float(temperature))


@dataclass(frozen=True)
class Tempered:
    """What is known of the distribution at a temperature $T$.

    At 0 tokens that tie share evenly; those that lie apart by no more than `rounding` may tie or not.
    """

    partial: Partial
    temperature: float

    @cached_property
    def weights(self) -> Float[np.ndarray, "known"]:
        """$w_i$, the Boltzmann weights from the best token up: they are exact."""
        weights: Float[np.ndarray, "known"] = np.exp(self._exponents)
        return weights

    @cached_property
    def z(self) -> Bounds:
        r"""The partition function counted from the best token, $A + R$, so that $p_1 = 1 / Z$."""
        total = math.fsum(self.weights.tolist())
        return Bounds(1.0 if self.temperature == 0 else total + self._rest.low, total + self._rest.high)

    @property
    def unseen(self) -> Bounds:
        """The probability of all tokens that are not known, $R / (A + R)$."""
        low, high = self._rest
        return Bounds(low / self.z.low, 1.0 if math.isinf(high) else high / self.z.high)

    def probabilities(self) -> tuple[Float[np.ndarray, "known"], Float[np.ndarray, "known"]]:
        """The least and the greatest that each known token's P can be."""
        return self.weights / self.z.high, self.weights / self.z.low

    def log_probability(self, log_p: float) -> Bounds:
        """log P, in nats, of a token whose log p at T = 1 is this, among the most probable or not."""
        weight = self._weight(math.exp(log_p))
        log_weight = math.log(weight) if weight else -math.inf
        return Bounds(log_weight - math.log(self.z.high), log_weight - math.log(self.z.low))

    @cached_property
    def entropy(self) -> Bounds:
        r"""$S$ in nats, split into what is known and what is not, $m = R / (A + R)$:

        $$S = h(m) + (1 - m)\,S_\text{known} + m\,S_\text{unseen}, \qquad
        h(m) = -m \log m - (1 - m) \log (1 - m)$$

        Above, $S_\text{unseen} \le \log (V - k)$, and the right side is concave in $m$. Below, the weight $R$
        lies on as few tokens as can hold it; filling up one of them raises $S$ and then lowers it, and each
        that is full raises it, so that the least stands at the least $R$ or where its next token is full.
        """
        if self.temperature == 0 or math.isinf(self.temperature):  # every weight that counts is 1
            return Bounds(math.log(self.z.low), math.log(self.z.high))
        low, high = self._rest
        cap = float(self.weights[-1])
        full = (math.floor(low / cap) + 1) * cap if cap else low
        return Bounds(min(self._fewest(low), self._fewest(min(full, high))), self._widest())

    def nucleus(self, p: float) -> Bounds:
        """How many tokens V(p) has. Those up to the least are in it, those after the greatest are not."""
        within("top_p", p, 0, 1)
        known, room = len(self.weights), self.partial.room
        if p == 1:
            return Bounds(known + (0 if math.isinf(room) else room), known + room)
        if self.temperature == 0 or p == 0:
            return Bounds(1, 1)
        cumulative, goal = np.cumsum(self.weights), p * (1 - EQUAL)
        sizes = []
        each = (float(self.weights[-1]), self._rest.high / room if room else 0.0)
        for rest, per_token in zip(self._rest, each, strict=True):
            need = goal * (cumulative[-1] + rest)
            if need <= cumulative[-1]:
                sizes.append(float(np.searchsorted(cumulative, need) + 1))
            elif math.isinf(need) or not per_token:
                sizes.append(known + room)
            else:
                sizes.append(known + min(room, math.ceil((need - cumulative[-1]) / per_token)))
        return Bounds(*sizes)

    @cached_property
    def _exponents(self) -> Float[np.ndarray, "known"]:
        log_p = self.partial.log_p
        if self.temperature == 0:
            return np.where(log_p >= log_p[0] - 2 * self.partial.rounding, 0.0, -np.inf)
        return boltzmann.exponents_of(log_p, self.temperature)

    @cached_property
    def _rest(self) -> Bounds:
        """$R$."""
        least, most = self.partial.unseen
        return Bounds(min(self._few(least), self._even(least)), max(self._few(most), self._even(most)))

    def _few(self, unseen: float) -> float:
        cap = math.exp(self.partial.log_p[-1])
        if not unseen or not cap:
            return 0.0
        full = math.floor(unseen / cap * (1 + EQUAL))
        return full * self._weight(cap) + self._weight(max(0.0, unseen - full * cap))

    def _even(self, unseen: float) -> float:
        room = self.partial.room
        if not unseen:
            return 0.0
        if not math.isinf(room):
            return room * self._weight(unseen / room)
        if self.temperature == 1:
            return self._weight(unseen)
        return 0.0 if self.temperature < 1 else math.inf

    def _weight(self, p: float) -> float:
        """(p / p₁)^(1/T)."""
        if p <= 0:
            return 0.0
        above = min(0.0, math.log(p) - float(self.partial.log_p[0]))
        if self.temperature == 0:
            return float(above >= -2 * self.partial.rounding)
        return math.exp(above / self.temperature)

    def _fewest(self, rest: float) -> float:
        """The entropy with the weight `rest` on as few tokens as can hold it."""
        cap, log_cap = float(self.weights[-1]), float(self._exponents[-1])
        full = math.floor(rest / cap * (1 + EQUAL)) if cap else 0
        part = max(0.0, rest - full * cap)
        terms = self.weights * self._exponents
        mean = math.fsum([*terms.tolist(), full * cap * log_cap, part * math.log(part) if part else 0.0])
        total = math.fsum([*self.weights.tolist(), rest])
        return max(0.0, math.log(total) - mean / total)

    def _widest(self) -> float:
        room, (low, high) = self.partial.room, self.unseen
        total = math.fsum(self.weights.tolist())
        known = math.log(total) - math.fsum((self.weights * self._exponents).tolist()) / total
        if not high:
            return known
        if math.isinf(room):
            return math.inf
        share = min(max(room / (room + math.exp(known)), low), high)
        mixing = -math.fsum(each * math.log(each) for each in (share, 1 - share) if each > 0)
        return mixing + (1 - share) * known + share * math.log(room)
