r"""A prompt as a bias of the hidden state, on one case or on a whole task.

One case (`prompt` and `input`): the next token without the prompt and with it, how far each layer's state
moves and where the answer appears, which tokens of the prompt carry it, and how much of the prompt one step
along ∇_task recovers, where the gradient knows the case's own target and so is an oracle. A task (`task`, a
file of pairs): vectors made from some items and judged on others, beside the prompt itself and beside
controls of equal norm.
"""

from typing import TYPE_CHECKING, Literal

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape import settings as shape
from thermoscope.instruments.shape.reading import Reading, joined
from thermoscope.instruments.shape.settings import Short, Text, setting
from thermoscope.instruments.shape.source import Source

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab

STEERS = True
QUESTION = "What does a prompt do inside the model?"
LAW = (
    r"P(y_t \mid \text{prompt}, x) = \operatorname{softmax}(f(h_L + \beta \nabla_\text{task}) / \tau), \quad "
    r"\nabla_\text{task} = \frac{\partial L_\text{task}}{\partial h_L}, \quad "
    r"h_L = g_L(\dots g_1([E_\text{prompt}; E_x])), \quad "
    r"\beta = \gamma \cdot \operatorname{sim}(h_L, h_\text{task})"
)
LOCAL = "it changes hidden states, and an upstream shows none"


class Settings(shape.Settings):
    """One case, a task, or both."""

    prompt: Text | None = setting(
        None, meaning="What stands before the input.", unit="text", min_length=1, max_length=100_000
    )
    input: Text | None = setting(
        None, meaning="What is asked, with and without the prompt.", unit="text", min_length=1,
        max_length=100_000,
    )  # fmt: skip
    target: Short | None = setting(
        None, meaning="What should follow the input; left out, it is what the prompted model says.",
        unit="text", min_length=1,
    )  # fmt: skip
    layer: int | None = setting(
        None, meaning="Whose stream is h; left out, the one before the final norm.", unit="layer", ge=0,
        le=1000,
    )  # fmt: skip
    gamma: float | None = setting(
        None, meaning="γ of the case; left out, the best of nine.", unit="units² a nat", ge=-1e9, le=1e9
    )
    temperature: float = setting(
        1.0, meaning="τ of the case's distributions.", unit="logit's nats", ge=0.01, le=100
    )
    top: int = setting(8, meaning="How many tokens to show.", unit="tokens", ge=1, le=100)
    task: Source | None = setting(
        None, meaning="Pairs: a JSON list of objects with input and output, or one a line.", unit="file"
    )
    train: int = setting(
        64, meaning="Items of the task that vectors are fitted on; the rest is held out.", unit="items",
        ge=8, le=1000,
    )  # fmt: skip
    test: int | None = setting(
        None, meaning="Items of the task that are held out; left out, all the rest up to 200.", unit="items",
        ge=1, le=2000,
    )  # fmt: skip
    shots: int = setting(5, meaning="Demonstrations in a prompt of the task.", unit="pairs", ge=2, le=7)
    mode: Literal["card", "constant"] = setting(
        "card",
        meaning="The task's vector to save: the card's γ·sim(h, h_task)·∇_task from the prompt's last token "
        "on, or constant: the mean difference, added to every token.",
        unit="mode",
    )
    seed: int = setting(
        0, meaning="The dice that split the task and draw demonstrations.", unit="seed", ge=0, lt=2**63
    )


def read(settings: Settings, lab: "Lab") -> Reading:
    """Look at the case, then at the task, as far as they are given."""
    parts = []
    if settings.prompt is not None and settings.input is not None:
        from thermoscope.instruments._one_case import read as one

        how = settings.model_dump(include={"layer", "gamma", "temperature", "top"})
        parts.append(one(lab, settings.prompt, settings.input, settings.target, **how))
    elif settings.prompt is not None or settings.input is not None:
        missing = "input" if settings.input is None else "prompt"
        raise InvalidRequest(f"{missing}: missing, and a case needs prompt and input.", param=missing)
    elif settings.target is not None:
        raise InvalidRequest("target: got one without a case; give prompt and input, too.", param="target")
    elif settings.task is None:
        raise InvalidRequest("prompt: missing; give prompt and input, or a task.", param="prompt")
    if settings.task is not None:
        from thermoscope.instruments._task_report import read as task

        how = settings.model_dump(include={"train", "test", "shots", "seed", "mode"})
        parts.append(task(lab, settings.task, **how))
    return joined(*parts)
