r"""How the hidden state moves from step to step, and what attention and the MLP wrote of it.

The card's $h_t = f(\operatorname{attention}(h_{t-1}, [h_1 … h_{t-1}]))$ leaves out that there are layers, and
that a token attends to itself, too. Exactly, for every layer $\ell$:

$$h_t^{\ell+1} = h_t^\ell + a_t^\ell + m_t^\ell$$

with $a$ what attention and $m$ what the MLP wrote. Here $t$ is the last token of each step.
"""

from typing import TYPE_CHECKING

import torch

from thermoscope.instruments.shape.figure import Figure, axes, bars, line
from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table
from thermoscope.models.distribution import log_z

if TYPE_CHECKING:
    from thermoscope.instruments._rerun import Rerun
    from thermoscope.instruments.shape.lab import Lab

STATES = (
    Column("step", "Which step's last token; 0 is the prompt's"),
    Column("token", "That token", form="r"),
    Column("shift", "‖h − h of the step before‖ before the final norm, by ‖h‖", "", ".3f"),
    Column("cosine", "cos(h, h of the step before) there", "", ".3f"),
    Column("cosine_middle", "The same in the middle layer", "", ".3f"),
    Column("attention", "Σ ‖a‖ / (Σ ‖a‖ + Σ ‖m‖) over layers", "share", ".3f"),
    Column("next", "The likeliest next token", form="r"),
    Column("p", "Its probability", "probability", ".3f"),
    Column("from_layer", "The layer from which on the lens shows it as likeliest", "layer"),
)
LAYERS = (
    Column("step", "Which step's last token; 0 is the prompt's"),
    Column("layer", "The layer that finds this stream; the last is before the final norm"),
    Column("norm", "‖h‖", "units of the stream"),
    Column("cosine", "cos(h, h of the step before); None for the prompt", "", ".4f"),
    Column("attention", "‖a‖, what the layer's attention wrote; None after the last", "units of the stream"),
    Column("mlp", "‖m‖, what its MLP wrote", "units of the stream"),
    Column("lens", "The likeliest token through final norm and unembedding", form="r"),
    Column("p", "Its probability", "probability", ".4f"),
)
SUM = 1e-5  # of the stream's length: float32


def evolve(lab: "Lab", run: "Rerun") -> Reading:
    """The stream of each step's last token: shift, cosine, lens, and its two writers."""
    look, layers = run.look, run.config.layers
    stream, attended, widened = look.stream, look.attended, look.widened
    ends = stream.shape[1]
    norms, wrote = stream.norm(dim=-1), (attended.norm(dim=-1), widened.norm(dim=-1))
    cosines = torch.nn.functional.cosine_similarity(stream[:, 1:], stream[:, :-1], dim=-1)
    shifts = (stream[-1, 1:] - stream[-1, :-1]).norm(dim=-1) / norms[-1, 1:]
    top, p, last = [], [], torch.empty(0)
    for layer in lab.track("reading through the lens", range(layers + 1)):
        last = run.lens(stream[layer])
        best = last.max(dim=-1)
        top.append(best.indices)
        p.append(torch.exp(best.values.double() - log_z(last)))
    tops, ps = torch.stack(top), torch.stack(p)
    at = [len(run.chain.prompt) - 1, *(step.end - 1 for step in run.chain.steps)]
    tokens = [run.decode([run.chain.tokens[each]]) for each in at]
    since = [_since(tops[:, each]) for each in range(ends)]
    share = wrote[0].sum(0) / (wrote[0].sum(0) + wrote[1].sum(0))
    rows: list[tuple[Cell, ...]] = [
        (
            each, tokens[each],
            *((float(shifts[each - 1]), float(cosines[-1, each - 1]), float(cosines[layers // 2, each - 1]))
              if each else (None, None, None)),
            float(share[each]), run.decode([int(tops[-1, each])]), float(ps[-1, each]), since[each],
        )
        for each in range(ends)
    ]  # fmt: skip
    details: list[tuple[Cell, ...]] = [
        (
            each, layer, float(norms[layer, each]), float(cosines[layer, each - 1]) if each else None,
            *((float(kind[layer, each]) for kind in wrote) if layer < layers else (None, None)),
            run.decode([int(tops[layer, each])]), float(ps[layer, each]),
        )
        for each in range(ends)
        for layer in range(layers + 1)
    ]  # fmt: skip
    off = (stream[:-1] + attended + widened - stream[1:]).norm(dim=-1) / norms[1:]
    following = torch.tensor([run.chain.tokens[each + 1] for each in at])
    seen = last.gather(1, following[:, None])[:, 0].double() - log_z(last)
    apart = max(abs(float(seen[i]) - float(run.logprobs[each])) for i, each in enumerate(at))
    return Reading(
        findings=[
            f"From one step's last token to the next one's the state keeps a cosine of "
            f"{float(cosines[layers // 2].mean()):.2f} in the middle layer, {float(cosines[-1].mean()):.2f} "
            f"at the end; attention wrote {100 * float(share[1:].mean()):.0f}% of what was added to it. What "
            f"comes next is settled from layer {sorted(since[1:])[len(since[1:]) // 2]} on, in the median."
        ],
        tables=[
            Table("states", "The hidden state at each step's end", STATES, rows),
            Table("layers", "… layer by layer", LAYERS, details, detail=True),
        ],
        figures=[
            Figure(
                "cosines",
                "How much of the state stays: cosine with the step before",
                [
                    line(range(layers + 1), cosines[:, each].tolist(), f"step {each + 1}")
                    for each in range(ends - 1)
                ],
                axes("layer that finds the stream", "cosine"),
            ),
            Figure(
                "writers",
                "What attention and what the MLP wrote, mean over steps",
                [
                    bars(range(layers), kind[:, 1:].mean(dim=1).tolist(), name)
                    for kind, name in zip(wrote, ("attention", "MLP"), strict=True)
                ],
                axes("layer", "length of what was added", barmode="group"),
            ),
        ],
        checks=[
            Check(
                "h + a + m = h of the next layer",
                "largest distance by the stream's length, over layers and steps",
                float(off.max()),
                SUM,
            ),
            Check(
                "lens of the last layer = the model's own logits",
                "log p of the token after each step through the lens, and in the pass",
                apart,
                lab.tie,
            ),
        ],
    )


def _since(tops: torch.Tensor) -> int:
    """The layer from which on the likeliest token is the last layer's."""
    other = (tops != tops[-1]).nonzero()
    return int(other[-1]) + 1 if len(other) else 0
