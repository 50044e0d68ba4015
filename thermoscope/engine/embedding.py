r"""A text as one vector: the mean of its tokens' last hidden states.

$$e = \frac{\bar h}{\lVert \bar h \rVert}, \qquad \bar h = \frac{1}{n} \sum_{i=1}^{n} h_i$$

$h_i$ is the residual stream after the final norm at token $i$, [hidden]. Nobody trained it to compare texts:
it is what a language model has at hand (mean pooling; Reimers and Gurevych 2019, who train it, section 3).
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from thermoscope.engine.replay import Chunk, chunks
from thermoscope.models.model import Model


def states(model: Model, tokens: Sequence[int]) -> Iterator[Float[Tensor, "hidden"]]:
    """The sum of the last hidden states of each chunk of tokens, in float64.

    **Errors:** those of `replay`, and at once.
    """
    last = model.config.layers

    def summed(part: Chunk) -> Float[Tensor, "hidden"]:
        with torch.inference_mode():
            return model.decoder.normed(part.kept["residual", last]).double().sum(dim=0)

    return map(summed, chunks(model, tokens, keep={"residual": [last]}))


def embedding(sums: Sequence[Float[Tensor, "hidden"]]) -> list[float]:
    """The vector of length 1 that the chunks' sums point to."""
    total = torch.stack(list(sums)).sum(dim=0)
    unit: list[float] = (total / total.norm()).tolist()
    return unit
