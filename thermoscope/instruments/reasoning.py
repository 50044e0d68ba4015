r"""A chain of thought as a working memory: what each step writes, who reads it, and whether that matters.

The keys and values of every token so far are the memory. The card's formula is computed from them and held to
what the model's attention did; steps are hidden from later ones, left out, shuffled and falsified, always in
the arithmetic that speaks, and the probability of the answer says what came of it.
"""

from typing import TYPE_CHECKING

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape import settings as shape
from thermoscope.instruments.shape.reading import Check, Reading, joined
from thermoscope.instruments.shape.settings import Short, Text, setting
from thermoscope.instruments.shape.source import Source

if TYPE_CHECKING:
    from thermoscope.instruments._chain import Chain
    from thermoscope.instruments._rerun import Rerun
    from thermoscope.instruments.shape.lab import Lab

QUESTION = "How does chain of thought use memory?"
LAW = (
    r"M_t = [K_t, V_t] = [(h_1 W^K, h_1 W^V), \dots, (h_t W^K, h_t W^V)], \qquad "
    r"c_t = \operatorname{softmax}\left(\frac{h_t W^Q (M_t^K)^\top}{\sqrt d}\right) M_t^V, \qquad "
    r"h_t = f(\operatorname{attention}(h_{t-1}, [h_1, \dots, h_{t-1}]))"
)
ROOM = 256  # tokens that other forms of the reasoning may have more
LOCAL = "it looks at keys, values and attention, and an upstream shows none"


class Settings(shape.Settings):
    """Whose reasoning to look at, for which answer, and how closely."""

    prompt: Text | None = setting(
        None, meaning="The question; the model reasons about it, or the solution does.", unit="text",
        argument=True, min_length=1, max_length=100_000,
    )  # fmt: skip
    solution: Text | None = setting(
        None, meaning="A worked solution in place of the model's own reasoning.", unit="text", min_length=1,
        max_length=100_000,
    )  # fmt: skip
    trace: Source | None = setting(
        None, meaning="A saved trace of this model, in place of a prompt.", unit="file"
    )
    answer: Short | None = setting(
        None, meaning="The answer whose probability is read; None is what stands behind ####, or the last "
        "number.", unit="text", min_length=1,
    )  # fmt: skip
    cue: Short = setting(
        "\nThe answer is", meaning="The words that ask for the answer, after the reasoning.", unit="text",
        min_length=1,
    )  # fmt: skip
    chat: bool = setting(True, meaning="Take the prompt as a user's message in a chat.", unit="switch")
    temperature: float = setting(0.0, meaning="T at which the model reasons.", unit="nats", ge=0, le=100)
    seed: int = setting(0, meaning="The dice of all that is drawn.", unit="seed", ge=0, lt=2**63)
    max_tokens: int = setting(
        256, meaning="Length of the model's reasoning at most.", unit="tokens", ge=1, le=4096
    )
    sinks: int = setting(4, meaning="First tokens that count as sinks.", unit="tokens", ge=1, le=64)
    controls: int = setting(
        9, meaning="Spans anywhere in the reasoning that are hidden as controls.", unit="spans", ge=1, le=1000
    )
    resample: int = setting(
        0, meaning="Draw every step again so often, at the temperature or at 1; 0 for not.", unit="draws",
        ge=0, le=128,
    )  # fmt: skip
    keep: float = setting(
        0.5, meaning="Share of the memory that is kept when it is cut half way.", unit="share", gt=0, lt=1
    )
    layer: int | None = setting(
        None, meaning="A layer whose attention is shown by itself.", unit="layer", ge=0, le=1000
    )
    head: int | None = setting(
        None, meaning="A head of that layer, of which every token is shown.", unit="head", ge=0, le=1000
    )


def read(settings: Settings, lab: "Lab") -> Reading:
    """Look at the memory, at who reads it, and at what the answer owes to each step."""
    from thermoscope.instruments._answering import ask
    from thermoscope.instruments._eviction import evict
    from thermoscope.instruments._evolution import evolve
    from thermoscope.instruments._reads import read_by
    from thermoscope.instruments._rerun import Rerun
    from thermoscope.instruments._slots import grow
    from thermoscope.instruments._suppression import hide

    _check(settings, lab)
    chain = _chain(settings, lab)
    head = None if settings.layer is None or settings.head is None else (settings.layer, settings.head)
    middle = chain.steps[(len(chain.steps) - 1) // 2].end
    run = Rerun(lab, chain, sinks=settings.sinks, until=middle, head=head, room=ROOM)
    parts = [
        _seen(run, lab),
        grow(run),
        read_by(run, settings.layer, settings.head),
        hide(lab, run, settings.controls, settings.seed),
        ask(lab, run, settings.seed),
        evolve(lab, run),
        evict(lab, run, middle, settings.sinks, settings.keep, settings.seed),
    ]
    if settings.resample:
        from thermoscope.instruments._resampled import resample

        again = settings.temperature or 1.0
        parts.append(resample(lab, run, settings.resample, again, settings.seed))
    return joined(*parts)


def _check(settings: Settings, lab: "Lab") -> None:
    """What settings demand of each other, and of the model."""
    others = [name for name in ("prompt", "solution") if getattr(settings, name) is not None]
    if settings.trace is not None and others:
        raise InvalidRequest(
            f"trace: got a {others[0]} beside it, expected one of the two: a trace has its own.",
            param="trace",
        )
    if settings.trace is None and settings.prompt is None:
        raise InvalidRequest("prompt: got none, expected a question, or a trace.", param="prompt")
    if settings.head is not None and settings.layer is None:
        raise InvalidRequest("head: got one without its layer; name both.", param="head")
    config = lab.model.config
    for name, count in (("layer", config.layers), ("head", config.heads)):
        got = getattr(settings, name)
        if got is not None and got >= count:
            raise InvalidRequest(f"{name}: got {got}, expected 0 to {count - 1}.", param=name)


def _chain(settings: Settings, lab: "Lab") -> "Chain":
    """The chain of thought: of a trace, given, or the model's own."""
    from thermoscope.instruments._chain import CONTENT_FREE, chained, opened, spoken

    if settings.trace is not None:
        trace = opened(lab, settings.trace)
        chat = any(map(lab.model.tokenizer.is_control, trace.prompt))
        bare = lab.tokens(CONTENT_FREE, chat=chat)
        return spoken(lab, trace.prompt, bare, settings.cue, settings.answer, trace)
    assert settings.prompt is not None
    prompt, bare = (lab.tokens(each, chat=settings.chat) for each in (settings.prompt, CONTENT_FREE))
    if settings.solution is not None:
        solution = settings.solution.strip() if settings.chat else f"\n{settings.solution.strip()}"
        reasoning = tuple(lab.model.tokenizer.encode(solution))
        return chained(lab, prompt, reasoning, bare, settings.cue, settings.answer)
    sampling = {
        "temperature": settings.temperature, "seed": settings.seed, "max_tokens": settings.max_tokens
    }  # fmt: skip
    (reply,) = lab.generate(prompt, [sampling])
    return spoken(lab, prompt, bare, settings.cue, settings.answer, reply.trace)


def _seen(run: "Rerun", lab: "Lab") -> Reading:
    """What the reading is of, and whether a second look sees what the engine recorded."""
    import numpy as np

    chain = run.chain
    notes = []
    if len(chain.answer) > 1:
        notes.append(
            f"The answer {chain.said!r} is {len(chain.answer)} tokens: its log-probability is their sum, by "
            "the chain rule."
        )
    stated = [number for number, step in enumerate(chain.steps, 1) if chain.states(step)]
    if stated:
        notes.append(
            f"The answer stands in step {', '.join(map(str, stated))}: what hiding or leaving out such a "
            "step does says that the answer can be copied from there, not how it was found."
        )
    trace, checks = chain.trace, []
    if trace is not None and trace.finish_reason == "length":
        notes.append("The reasoning was cut by its limit, max_tokens; the last step may be half of one.")
    if trace is not None and all(step.record is not None for step in trace.steps):
        first, count = len(chain.prompt), len(chain.reasoning)
        spoke = [step.record.logprob for step in trace.steps[:count] if step.record is not None]
        checks.append(
            Check(
                "replay = record",
                "largest |log p of this pass − log p recorded at the step|, over all tokens of the reasoning",
                float(np.abs(run.logprobs[first - 1 : first - 1 + count] - spoke).max()),
                lab.tie,
            )
        )
    return Reading(
        findings=[
            f"{len(chain.steps)} steps of {len(chain.reasoning)} tokens; after them P({chain.said!r}) = "
            f"{np.exp(run.answer):.3g}, log {run.answer:.3f}."
        ],
        checks=checks,
        notes=notes,
    )
