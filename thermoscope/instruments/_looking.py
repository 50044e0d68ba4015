r"""One pass over a chain of thought, summed up while it runs.

Of all attention only a chunk's rows of one layer are ever in memory. It is gathered by groups of tokens: the
sinks, the rest of the prompt, each step, and the end. What group $a$ gives to group $b$ is the mean over its
tokens of what they give to all of $b$'s.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from thermoscope.engine.counterfactual import Counterfactual
from thermoscope.errors import UnsupportedModel
from thermoscope.laws import attention
from thermoscope.models.adapter import Adapter
from thermoscope.models.fused import Fused
from thermoscope.models.mlp import affine

if TYPE_CHECKING:
    from thermoscope.engine.replay import Quantity
    from thermoscope.instruments._chain import Chain
    from thermoscope.models.decoder import Layer
    from thermoscope.models.model import Model

BEFORE = 2  # groups before the steps: sinks, and the rest of the prompt
SEEN: tuple["Quantity", ...] = ("residual", "q", "v", "attention", "head_out", "attention_out", "mlp_out")


@dataclass
class Look:
    """What the pass showed; `groups` are sinks, prompt, steps and end.

    - `given`: [layers, heads, groups, groups], attention; `moved`: the same by the length of what it moves,
      $\\alpha_j \\|v_j W_O\\|$, as shares of a row.
    - `entropy`: [layers, heads, tokens], nats, of each token's attention.
    - `received`: [layers, tokens], what each token is given by those before index `until`, summed over them
      and over heads.
    - `formula`: [layers, heads], largest |c_t by the card's formula − what the head mixed|, as a share of the
      largest number there; `written`: [layers], the same after the output projection.
    - `stream`, `attended`, `widened`: [layers (+ 1), ends, hidden], the residual stream at the last token of
      the prompt and of every step, what attention added and what the MLP added.
    - `last`: [tokens, hidden], the stream before the final norm.
    - `map`: [tokens, tokens], the attention of the one head that was asked for.
    """

    given: Float[Tensor, "layers heads groups groups"]
    moved: Float[Tensor, "layers heads groups groups"]
    entropy: Float[Tensor, "layers heads tokens"]
    received: Float[Tensor, "layers tokens"]
    formula: Float[Tensor, "layers heads"]
    written: Float[Tensor, "layers"]
    stream: Float[Tensor, "layers+1 ends hidden"]
    attended: Float[Tensor, "layers ends hidden"]
    widened: Float[Tensor, "layers ends hidden"]
    last: Float[Tensor, "tokens hidden"]
    map: Float[Tensor, "tokens tokens"] | None
    sizes: list[int] = field(default_factory=list)


class Looking:
    """Takes the quantities of a pass as they come (`engine.replay.See`) and sums them up in `look`.

    `sinks`: how many of the first tokens are shown apart. `until`: see `Look.received`. `head`: layer and
    head whose whole attention is kept.
    """

    def __init__(
        self,
        model: "Model",
        case: Counterfactual,
        chain: "Chain",
        *,
        sinks: int,
        until: int,
        head: tuple[int, int] | None,
    ) -> None:
        self._model, self._case, self._until, self._head = model, case, until, head
        config, count = model.config, len(chain.tokens)
        decoder = model.decoder
        if isinstance(decoder, Adapter):
            raise UnsupportedModel(
                f"reasoning: got a {config.family}, which runs through transformers; expected a family that "
                "this decoder knows."
            )
        self._plain = decoder.plain if isinstance(decoder, Fused) else decoder
        edges = [0, min(sinks, len(chain.prompt)), len(chain.prompt)]
        edges += [step.end for step in chain.steps] + [count]
        sizes = [end - first for first, end in pairwise(edges)]
        self._group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        self._member = torch.nn.functional.one_hot(self._group, len(sizes)).float()
        self._ends = torch.tensor([len(chain.prompt) - 1, *(step.end - 1 for step in chain.steps)])
        self._norms: dict[int, list[Tensor]] = {}
        self._queries = self._mixed = torch.empty(0)
        layers, heads, groups, ends = config.layers, config.heads, len(sizes), len(self._ends)
        self.look = Look(
            given=torch.zeros(layers, heads, groups, groups, dtype=torch.float64),
            moved=torch.zeros(layers, heads, groups, groups, dtype=torch.float64),
            entropy=torch.zeros(layers, heads, count),
            received=torch.zeros(layers, count),
            formula=torch.zeros(layers, heads),
            written=torch.zeros(layers),
            stream=torch.zeros(layers + 1, ends, config.hidden),
            attended=torch.zeros(layers, ends, config.hidden),
            widened=torch.zeros(layers, ends, config.hidden),
            last=torch.zeros(count, config.hidden),
            map=None if head is None else torch.zeros(count, count),
            sizes=sizes,
        )

    def __call__(self, quantity: "Quantity", layer: int, start: int, rows: Tensor) -> None:
        """Take one quantity of a chunk whose first token has index `start`."""
        match quantity:
            case "residual":
                self._at_ends(self.look.stream, layer, start, rows)
                if layer == self._model.config.layers:
                    self.look.last[start : start + len(rows)] = rows
            case "q":
                self._queries = rows
            case "v":
                self._norms.setdefault(layer, []).append(self._lengths(layer, rows))
            case "attention":
                self._attention(layer, start, rows)
            case "head_out":
                self._check_formula(layer, start, rows)
            case "attention_out":
                self._at_ends(self.look.attended, layer, start, rows)
                self._check_written(layer, rows)
            case "mlp_out":
                self._at_ends(self.look.widened, layer, start, rows)

    def _at_ends(self, into: Tensor, layer: int, start: int, rows: Tensor) -> None:
        here = (self._ends >= start) & (self._ends < start + len(rows))
        into[layer, here] = rows[self._ends[here] - start]

    def _lengths(self, layer: int, values: Float[Tensor, "rows kv dim"]) -> Float[Tensor, "heads rows"]:
        """‖v_j W_O‖ for every head, before a norm that stands behind the projection."""
        config = self._model.config
        output = self._layer(layer).output.weight().view(config.hidden, config.heads, config.head_dim)
        each = values.repeat_interleave(config.heads // config.kv_heads, dim=1)
        gram = torch.einsum("ohd,ohe->hde", output, output)
        square = torch.einsum("rhd,hde,rhe->hr", each, gram, each)
        return square.clamp(min=0).sqrt()

    def _attention(self, layer: int, start: int, weights: Float[Tensor, "heads rows length"]) -> None:
        rows, length = weights.shape[1:]
        here, seen = slice(start, start + rows), self._member[:length]
        moved = attention.weighted(weights, torch.cat(self._norms[layer], dim=1))
        for into, each in ((self.look.given, weights), (self.look.moved, moved)):
            by_key = torch.einsum("hrl,lg->hrg", each, seen).double()
            into[layer].index_add_(1, self._group[here], by_key)
        self.look.entropy[layer, :, here] = attention.entropy(weights)
        self.look.received[layer, :length] += weights[:, : max(0, self._until - start)].sum((0, 1))
        if self.look.map is not None and self._head is not None and layer == self._head[0]:
            self.look.map[here, :length] = weights[self._head[1]]

    def _check_formula(self, layer: int, start: int, mixed: Float[Tensor, "rows heads dim"]) -> None:
        """c_t = softmax(q K_tᵀ / √d) V_t in float64 from the memory, against what the heads mixed."""
        config, length = self._model.config, start + len(mixed)
        keys, values = (
            each.double().repeat_interleave(config.heads // config.kv_heads, dim=0)
            for each in self._case.memory(layer, length)
        )
        row, column = torch.arange(start, length)[:, None], torch.arange(length)
        hidden = column > row
        if config.windowed and config.windowed[layer] and config.window:
            hidden |= column <= row - config.window
        queries = self._queries.double().transpose(0, 1)
        found = attention.read(queries, keys, values, self._plain.scale, hidden).transpose(0, 1)
        off = (found - mixed).abs().amax((0, 2)) / mixed.abs().max()
        self.look.formula[layer] = torch.maximum(self.look.formula[layer], off.float())
        self._mixed = found.float().flatten(1)

    def _check_written(self, layer: int, rows: Float[Tensor, "rows hidden"]) -> None:
        """c_t through the output projection, against what the model's own attention wrote."""
        weights = self._layer(layer)
        wrote = affine(weights.output, self._mixed, weights.output_bias)
        if weights.attention_post_norm is not None:
            norm = weights.attention_post_norm
            wrote = torch.nn.functional.rms_norm(wrote, norm.shape, norm, self._model.config.norm_eps)
        off = (wrote - rows).norm(dim=1) / rows.norm(dim=1)
        self.look.written[layer] = torch.maximum(self.look.written[layer], off.max())

    def _layer(self, layer: int) -> "Layer":
        return self._plain.layers[layer]

    def done(self) -> Look:
        """The sums as means: each row of `given` and of `moved` sums to 1."""
        sizes = torch.tensor(self.look.sizes, dtype=torch.float64).clamp(min=1)
        self.look.given /= sizes[:, None]
        self.look.moved /= sizes[:, None]
        return self.look
