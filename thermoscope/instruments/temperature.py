r"""The next token's distribution at several temperatures, side by side, and what the model then says.

One forward pass gives the logits; every temperature is a reading of the same ones. The continuations at all
temperatures are drawn with the same noise, so that one sees the same dice under another temperature.
"""

import math
from typing import TYPE_CHECKING, Annotated

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape import settings as shape
from thermoscope.instruments.shape.figure import Figure, axes, bars, line, ticks
from thermoscope.instruments.shape.reading import EXACT, Cell, Check, Column, Reading, Table, joined
from thermoscope.instruments.shape.seam import shared
from thermoscope.instruments.shape.settings import Many, setting
from thermoscope.instruments.shape.source import Source

if TYPE_CHECKING:
    import numpy as np

    from thermoscope.engine.trace import Trace
    from thermoscope.instruments.shape.lab import Lab

QUESTION = "What does temperature do?"
LAW = r"P(x_i) = \frac{\exp(z_i / T)}{\sum_j \exp(z_j / T)}"

Logits = Annotated["np.ndarray", "vocab"]

TOKEN = (
    Column("token", "The token's text", form="r"),
    Column("id", "Its id"),
    Column("logit", "z, which is defined up to a constant", "nats", ".3f"),
)
TOP = Column("top_probability", "Probability of the best token", form=".4f")
TEMPERATURES = (
    Column("temperature", "T", "nats"),
    Column("entropy", "S of the next token", "nats", ".4f"),
    Column("entropy_bits", "The same in bits", "bits", ".4f"),
    Column("perplexity", "exp S: as many equal choices have this entropy", "tokens"),
    Column("effective", "1 / Σ p²: the number of choices that the likely ones count for", "tokens"),
    Column("top_token", "The best token", form="r"),
    TOP,
    Column("kl_from_1", "KL(p_T‖p_1), what sampling at T tells apart from T = 1", "nats"),
)
CURVES = (*(TEMPERATURES[at] for at in (0, 1, 3, 4)), TOP)
PROBABILITY_AXIS = {
    "title": {"text": "probability"}, "overlaying": "y", "side": "right", "tickvals": [0, 0.25, 0.5, 0.75, 1],
}  # fmt: skip
SOLVED = (
    Column("quantity", "What was wanted"),
    Column("wanted", "Its value"),
    Column("temperature", "T that gives it", "nats", ".6g"),
    Column("reached", "The value at this T", form=".6g"),
)
SPOKEN = (
    Column("temperature", "T", "nats"),
    Column("choice", "Which of the answers: the same number has the same dice"),
    Column("shared", "Tokens that it begins with like the one at the temperature before", "tokens"),
    Column(
        "logprob", "Mean log-probability of its tokens in the model's own distribution", "nats a token", ".3f"
    ),
    Column("text", "What the model said"),
)
MOST = 100_000  # tokens of all continuations, which are held with their records
CURVE = tuple(10 ** (exponent / 20) for exponent in range(-40, 41))  # temperatures of the curves, 0.01 to 100


class Settings(shape.PromptSettings):
    """What to look at, and at which temperatures."""

    temperatures: Many[shape.Temperature] = setting(
        (0.2, 0.7, 1.0, 1.5), meaning="Temperatures side by side, 0 to inf.", unit="nats",
        min_length=1, max_length=16,
    )  # fmt: skip
    top: int = setting(10, meaning="How many of the best tokens to show.", unit="tokens", ge=1, le=1000)
    samples: int = setting(
        3, meaning="Continuations at each temperature; 0 for none.", unit="answers", ge=0, le=128
    )
    max_tokens: int = setting(24, meaning="Length of a continuation.", unit="tokens", ge=1, le=4096)
    seed: int = setting(0, meaning="The dice of the continuations.", unit="seed", ge=-(2**63), lt=2**64)
    entropy: float | None = setting(
        None, meaning="Find the temperature that gives this entropy.", unit="nats", ge=0, le=100
    )
    perplexity: float | None = setting(
        None, meaning="Find the temperature that gives this perplexity, exp S.", unit="tokens", ge=1, le=1e9
    )
    top_probability: float | None = setting(
        None, meaning="Find the temperature that gives the best token this probability.",
        unit="probability", ge=0, le=1,
    )  # fmt: skip
    calibrate: Source | None = setting(
        None, meaning="Fit T* on this file: JSON lines with text, prompt and completion, or question and "
        "answer; or plain text with empty lines between documents.", unit="file",
    )  # fmt: skip
    calibrate_tokens: int = setting(
        1024, meaning="Labelled tokens to fit and test on.", unit="tokens", ge=2, le=100_000
    )

    @property
    def distinct(self) -> tuple[float, ...]:
        """The temperatures, each once."""
        return tuple(dict.fromkeys(self.temperatures))


def read(settings: Settings, lab: "Lab") -> Reading:
    """Look at the next token at each temperature, let the model speak at each, and fit T* if asked to."""
    spoken = settings.samples * len(settings.distinct) * settings.max_tokens
    if spoken > MOST:
        raise InvalidRequest(
            f"samples: got {settings.samples} at {len(settings.distinct)} temperatures of up to "
            f"{settings.max_tokens} tokens each, {spoken} in all, expected at most {MOST}; ask for less.",
            param="samples",
        )
    prompt = lab.tokens(settings.prompt, chat=settings.chat)
    z = lab.last(prompt)
    names = lab.names(z, settings.top)
    parts = [_distributions(settings, names, z), _curves(z), _solved(settings, z)]
    if settings.samples:
        parts.append(_spoken(settings, lab, prompt, z))
    if settings.calibrate is not None:
        from thermoscope.instruments._calibrating import calibrate

        parts.append(calibrate(lab, settings.calibrate, settings.calibrate_tokens))
    return joined(*parts)


def read_upstream(settings: Settings, lab: "Lab") -> Reading:
    """The same where only another server's most probable tokens are known: bounds instead of values."""
    from thermoscope.instruments import _upstream_temperature

    return _upstream_temperature.read(settings, lab)


def _distributions(settings: Settings, names: dict[int, str], z: Logits) -> Reading:
    """The same logits at each temperature: what is probable, and how many choices that leaves."""
    import numpy as np

    from thermoscope.laws import boltzmann, divergence

    temperatures, best = settings.distinct, list(names)
    log_p = [boltzmann.log_probabilities(z, temperature) for temperature in temperatures]
    p = [np.exp(each) for each in log_p]
    tops = [float(each[best[0]]) for each in p]
    entropies = boltzmann.curve(z, temperatures).entropy.tolist()
    from_one = [float(divergence.between_temperatures(z, temperature, 1.0)) for temperature in temperatures]
    rows: list[tuple[Cell, ...]] = [
        (
            temperature, entropy, entropy / math.log(2), math.exp(entropy), 1 / float((each**2).sum()),
            names[best[0]], top, divergent,
        )
        for temperature, each, entropy, top, divergent in zip(
            temperatures, p, entropies, tops, from_one, strict=True
        )
    ]  # fmt: skip
    shown: list[tuple[Cell, ...]] = [
        (names[token], token, float(z[token]), *(float(each[token]) for each in p)) for token in best
    ]
    labels = [f"{temperature:.12g}" for temperature in temperatures]
    ranked = [repr(name) for name in names.values()]
    return Reading(
        findings=[
            f"At T = {label} the model has {_choices(math.exp(entropy))} (perplexity); {names[best[0]]!r} "
            f"gets {100 * top:.3g}%."
            for label, entropy, top in zip(labels, entropies, tops, strict=True)
        ],
        tables=[
            Table("temperatures", "The next token at each temperature", TEMPERATURES, rows),
            Table(
                "distribution",
                f"The {len(best)} best tokens; dividing by T moves probability and never a rank",
                [
                    *TOKEN,
                    *(Column(f"p_{label}", f"Probability at T = {label}", form=".4f") for label in labels),
                ],
                shown,
            ),
        ],
        figures=[
            Figure(
                "distribution",
                "The next token at each temperature",
                [
                    bars(range(len(best)), [float(each[token]) for token in best], f"T = {label}")
                    for label, each in zip(labels, p, strict=True)
                ],
                axes("token, best first", "probability", barmode="group", xaxis=ticks(ranked)),
            )
        ],
        checks=[
            Check(
                "Σ P = 1",
                "probabilities summed with math.fsum, at each temperature",
                max(abs(math.fsum(each.tolist()) - 1) for each in p),
                EXACT,
            ),
            Check(
                "S = −Σ p log p",
                "the entropy of F and U, and the sum over tokens",
                max(
                    _relative(_entropy(z, temperature, each), entropy)
                    for temperature, each, entropy in zip(temperatures, log_p, entropies, strict=True)
                ),
                EXACT,
            ),
            Check(
                "KL(p_T‖p_1) through F",
                "temperature's own identity, and the sum over tokens",
                max(
                    _relative(divergent, divergence.kl(each, boltzmann.log_probabilities(z, 1.0)))
                    for each, divergent in zip(log_p, from_one, strict=True)
                ),
                EXACT,
            ),
        ],
    )


def _choices(perplexity: float) -> str:
    count = f"{perplexity:,.0f}" if perplexity >= 999.5 else f"{perplexity:.3g}"
    return f"{count} choice{'' if count == '1' else 's'}"


def _curves(z: Logits) -> Reading:
    """Entropy, perplexity, the top probability and the effective number of choices against T."""
    import numpy as np

    from thermoscope.laws import boltzmann

    entropy = boltzmann.curve(z, CURVE).entropy
    p = [boltzmann.probabilities(z, temperature) for temperature in CURVE]
    top = [float(each.max()) for each in p]
    effective = [1 / float((each**2).sum()) for each in p]
    rows = list(zip(CURVE, entropy.tolist(), np.exp(entropy).tolist(), effective, top, strict=True))
    log = {"type": "log"}
    return Reading(
        tables=[Table("curve", "Against T", CURVES, rows, detail=True)],
        figures=[
            Figure(
                "choices",
                "How many choices a temperature leaves",
                [line(CURVE, np.exp(entropy), "perplexity exp S"), line(CURVE, effective, "1 / Σ p²")],
                axes("T", "tokens", xaxis=log, yaxis=log),
            ),
            Figure(
                "entropy",
                "Entropy, and the probability of the best token",
                [line(CURVE, entropy, "entropy"), line(CURVE, top, "top probability", yaxis="y2")],
                axes(
                    "T", "entropy, nats", xaxis=log,
                    yaxis2=PROBABILITY_AXIS,
                ),
            ),
        ],
        checks=[
            Check(
                "S rises with T",
                "largest fall of the entropy from one temperature of the curve to the next",
                max(0.0, -float(np.diff(entropy).min())),
                EXACT,
            )
        ],
    )  # fmt: skip


def _solved(settings: Settings, z: Logits) -> Reading:
    """The temperature at which the distribution has a wanted entropy, perplexity or top probability."""
    from thermoscope.laws import boltzmann, thermostat

    names = ("entropy", "perplexity", "top_probability")
    wanted = {name: value for name in names if (value := getattr(settings, name)) is not None}
    rows, gaps = [], []
    for name, value in wanted.items():
        temperature = thermostat.temperature_for(z, **{name: value})
        entropy = float(boltzmann.thermodynamics(z, temperature).entropy)
        # At T = 0 the sampler takes one of the tokens that tie; what was solved for leaves them even.
        top = float(boltzmann.probabilities(z, temperature).max()) if temperature else 1 / _ties(z)
        reached = {"entropy": entropy, "perplexity": math.exp(entropy), "top_probability": top}[name]
        rows.append((name, value, temperature, reached))
        gaps.append(_relative(reached, value))
    if not rows:
        return Reading()
    return Reading(
        findings=[f"T = {row[2]:.4g} gives {row[0].replace('_', ' ')} {row[1]:g}." for row in rows],
        tables=[Table("solved", "The temperature that gives a wanted value", SOLVED, rows)],
        checks=[
            Check("the temperature found", "the wanted value, and the value there", max(gaps), 1e-9),
        ],
    )


def _spoken(settings: Settings, lab: "Lab", prompt: tuple[int, ...], z: Logits) -> Reading:
    """Continuations: the same dice at every temperature."""
    asked = {"seed": settings.seed, "n": settings.samples, "max_tokens": settings.max_tokens}
    replies = lab.generate(prompt, [asked | {"temperature": each} for each in settings.distinct])
    traces = [reply.traces for reply in replies]
    rows = []
    for temperature, answers, colder in zip(settings.distinct, traces, [None, *traces], strict=False):
        for trace in answers:
            alike = None if colder is None else shared(trace.tokens, colder[trace.choice].tokens)
            rows.append((temperature, trace.choice, alike, _mean_logprob(trace), trace.text))
    return Reading(
        tables=[Table("continuations", "What the model says with the same dice", SPOKEN, rows)],
        checks=[
            Check(
                "token = argmax(z/T + g)",
                "first tokens that the engine drew, and the law with the noise of the same seed",
                sum(
                    trace.tokens[0] != _drawn(z, temperature, settings.seed, trace.choice)
                    for temperature, answers in zip(settings.distinct, traces, strict=True)
                    for trace in answers
                ),
                0,
            ),
            lab.replayed([trace for answers in traces for trace in answers]),
        ],
    )


def _drawn(z: Logits, temperature: float, seed: int, choice: int) -> int:
    """The token that the law draws first, in one line of it."""
    import numpy as np

    from thermoscope.laws import boltzmann, noise

    log_p = boltzmann.log_probabilities(z, temperature)
    return int((log_p + noise.gumbel(seed, choice, 0, np.arange(len(z)))).argmax())


def _mean_logprob(trace: "Trace") -> float:
    logprobs = [step.record.logprob for step in trace.steps if step.record is not None]
    return math.fsum(logprobs) / len(logprobs)


def _entropy(z: Logits, temperature: float, log_p: Logits) -> float:
    """The sum of −p log p; at T = 0 that of the tokens that tie, of which the sampler's p has only one."""
    import numpy as np

    if temperature == 0:
        return math.log(_ties(z))
    finite = log_p[np.isfinite(log_p)]
    return -math.fsum((np.exp(finite) * finite).tolist())


def _ties(z: Logits) -> int:
    """How many tokens share the greatest logit."""
    return int((z == z.max()).sum())


def _relative(one: float, other: float) -> float:
    return abs(one - other) / max(1.0, abs(other))
