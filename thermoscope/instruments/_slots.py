r"""The memory of a chain of thought, $M_t = [K_t, V_t]$, as it grows, and how many slots a token reads."""

from typing import TYPE_CHECKING

import numpy as np

from thermoscope.instruments.shape.figure import Figure, axes, line
from thermoscope.instruments.shape.reading import EXACT, Cell, Check, Column, Reading, Table

if TYPE_CHECKING:
    from thermoscope.instruments._rerun import Rerun

MEMORY = (
    Column("step", "Which step; 0 is the prompt"),
    Column("text", "What it says", form="r"),
    Column("tokens", "Its tokens, and so the slots of memory that it adds", "tokens"),
    Column("bytes", "Keys and values of all layers that it adds", "bytes"),
    Column("held", "M_t in all after it", "bytes"),
    Column("entropy", "Mean H of its tokens' attention, over layers and heads", "nats", ".3f"),
    Column("slots", "Mean of exp H: slots that a token effectively reads", "slots", ".1f"),
    Column("of", "Slots that its last token could read", "slots"),
)
FORMULA = 1e-5  # of the largest number: the model's float32 against float64
WRITTEN = {"fp32": 1e-5}  # by the norm of what was written: what rounding of activations moves it by
ROUNDED = 0.02


def grow(run: "Rerun") -> Reading:
    """What each step adds and what its tokens read; the card's formula, held to the model."""
    chain, look, config = run.chain, run.look, run.config
    each = 2 * config.layers * config.kv_heads * config.head_dim * run.width
    entropy = look.entropy.double().numpy()
    spans = [(0, range(len(chain.prompt)), run.decode(chain.prompt)), *_numbered(run)]
    rows: list[tuple[Cell, ...]] = []
    for number, span, text in spans:
        here = entropy[:, :, span.start : span.stop]
        rows.append(
            (
                number, text, len(span), each * len(span), each * span.stop, float(here.mean()),
                float(np.exp(here).mean()), span.stop,
            )
        )  # fmt: skip
    held = run.held(chain.asked)
    first, last = (float(np.exp(entropy[:, :, span]).mean()) for span in (spans[1][1], spans[-1][1]))
    written = float(look.written.max())
    return Reading(
        findings=[
            f"The reasoning adds {len(chain.reasoning)} slots to the {len(chain.prompt)} of the prompt: "
            f"{each * len(chain.reasoning) / 2**20:.3g} MiB, {each} bytes a token ({config.layers} layers, "
            f"{config.kv_heads} heads of keys and values, {config.head_dim} numbers of {run.width} bytes).",
            f"A token of step 1 effectively reads {first:.1f} slots, one of step {len(chain.steps)} "
            f"{last:.1f} of the {chain.asked} that there then are.",
        ],
        tables=[Table("memory", "The memory as it grows", MEMORY, rows)],
        figures=[
            Figure(
                "memory",
                "The memory after each step",
                [
                    line(
                        [row[0] for row in rows], [float(str(row[4])) / 2**20 for row in rows], "M_t",
                        line={"shape": "hv"}, mode="lines+markers",
                    )
                ],
                axes("step (0 is the prompt)", "MiB of keys and values", yaxis={"rangemode": "tozero"}),
            )
        ],
        checks=[
            Check(
                "c_t = softmax(q_t K_tᵀ/√d) V_t",
                "the card's formula in float64, from q and the memory as it is kept, and what every head of "
                "every layer mixed; largest difference by the layer's largest number",
                float(look.formula.max()),
                FORMULA,
            ),
            Check(
                "c_t W_O = what attention wrote",
                "the formula's c_t through the output projection, and what the model's own attention added "
                f"to the stream; largest distance by its length, over {config.layers} layers and all tokens",
                written,
                WRITTEN.get(run.precision, ROUNDED),
            ),
            Check(
                "bytes of M_t",
                "2 · layers · KV heads · width · bytes for each token, and the cache's own size",
                abs(held / (each * chain.asked) - 1), EXACT,
            ),
        ],
        notes=[
            f"c_t W_O lies at most {written:.2g} of its length from what the model's attention wrote "
            f"({run.precision}): the formula is exact, what is left is how the arithmetic rounds."
        ],
    )  # fmt: skip


def _numbered(run: "Rerun") -> list[tuple[int, range, str]]:
    return [(number, step.tokens, step.text) for number, step in enumerate(run.chain.steps, 1)]
