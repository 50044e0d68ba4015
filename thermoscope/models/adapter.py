"""Any other causal model that `transformers` can load from a folder, behind the decoder's interface.

transformers computes everything but attention. Its attention interface calls a function of ours, which keeps
keys and values in our cache and shows them to probes; so sequences of a batch share one call as they do in
`models.decoder`. Whatever else lets one token see another (a state, a convolution, a bias by distance) would
go wrong without a word, so every network is tried against itself before it is used: `models.foreign`.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thermoscope.catalogue.config import ModelConfig
from thermoscope.errors import UnsupportedModel
from thermoscope.models.attention import attend, rows_of
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.intervention import Intervention, Interventions
from thermoscope.models.probe import Probe
from thermoscope.models.product import Dense, Product

# queries, keys, values [rows, heads, dim]; scale, window, softcap -> [rows, heads · dim]
Attend = Callable[[Tensor, Tensor, Tensor, float, int | None, float | None], Tensor]
_attend: ContextVar[Attend] = ContextVar("attend")


@contextmanager
def calling(function: Attend) -> Iterator[None]:
    """Let `interface` call this function."""
    token = _attend.set(function)
    try:
        yield
    finally:
        _attend.reset(token)


def interface(
    _module: nn.Module,
    query: Float[Tensor, "1 heads rows dim"],
    key: Float[Tensor, "1 kv rows dim"],
    value: Float[Tensor, "1 kv rows dim"],
    _mask: None,  # transformers makes none for a function that is not its own
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_rest: Any,
) -> tuple[Float[Tensor, "1 rows heads dim"], None]:
    """What transformers calls for attention, once it is registered there."""
    queries, keys, values = (each[0].transpose(0, 1) for each in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    mixed = _attend.get()(queries, keys, values, scale, sliding_window, softcap)
    return mixed.view(1, *queries.shape[:2], -1), None


class Adapter:
    """A network of transformers that runs like a `Decoder`; slower, for nothing in it is fused.

    `network`: a causal language model whose attention calls `interface`. `shows`: what its probes see.
    """

    cache_type = torch.float32
    shows = ("residual", "q", "k", "v", "attention", "head_out")

    def __init__(self, config: ModelConfig, network: Any) -> None:
        self.config = config
        self._network = network
        self._layers = _layers(network.base_model, config.layers)
        self._given: Any = None
        self._in_tuple = False  # whether layers return their state as the first of several
        self._tail = self._with_a_given_state()

    @property
    def embedding(self) -> Float[Tensor, "vocab hidden"]:
        """The embedding's rows."""
        weight: Tensor = self._network.get_input_embeddings().weight
        return weight

    @property
    def head(self) -> Product:
        """hidden -> vocab, without what the network may do to its logits afterwards."""
        return Dense(self._network.get_output_embeddings().weight)

    def forward(
        self,
        tokens: Sequence[int],
        spans: Sequence[Span],
        cache: KVCache,
        probe: Probe | None = None,
        interventions: Mapping[int, Sequence[Intervention]] | None = None,
    ) -> Float[Tensor, "rows hidden"]:
        """As `Decoder.forward`; probes see what `shows` names."""
        rows = rows_of(spans, cache, self.config.window)
        changes = Interventions(interventions or {}, rows.slots, rows.positions)
        layers = iter(range(self.config.layers))

        def function(
            q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None
        ) -> Tensor:
            index = next(layers)
            return attend(
                index, q, k, v, rows, cache, probe,
                scale=scale, windowed=window is not None, softcap=softcap, hidden=changes.hidden(index),
            )  # fmt: skip

        last: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._in_tuple = isinstance(output, tuple)
            last.append((output[0] if self._in_tuple else output)[0])

        with ExitStack() as stack:
            stack.enter_context(calling(function))
            stack.callback(self._layers[-1].register_forward_hook(keep).remove)
            for index, layer in enumerate(self._layers if probe or interventions else ()):
                hook = layer.register_forward_pre_hook(_between(index, probe, changes), with_kwargs=True)
                stack.callback(hook.remove)
            self._network.base_model(
                input_ids=torch.tensor(tokens)[None], position_ids=rows.positions[None], use_cache=False
            )
        x = changes.stream(self.config.layers, last[0])
        if probe:
            probe("residual", self.config.layers, x)
        cache.extend(spans)
        return x

    def logits(self, x: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocab"]:
        """The network's own way from the residual stream to logits."""
        logits: Tensor = self._onward(self._tail, x).logits
        return logits[0]

    def normed(self, x: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
        """The network's own way from the residual stream to its last hidden state."""
        state: Tensor = self._onward(self._tail.base_model, x).last_hidden_state
        return state[0]

    def _onward(self, tail: Any, x: Tensor) -> Any:
        self._given = (x[None],) if self._in_tuple else x[None]
        tokens = torch.zeros(1, len(x), dtype=torch.long)
        return tail(input_ids=tokens, position_ids=tokens, use_cache=False)

    def _with_a_given_state(self) -> Any:
        """The network, with one layer in place of all, whose output is `_given`; no weight is copied."""
        layer = copy.copy(self._layers[-1])
        layer.forward = lambda *_, **__: self._given
        return _replaced(self._network, self._layers, nn.ModuleList([layer]))


def _layers(body: nn.Module, count: int) -> nn.ModuleList:
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise UnsupportedModel(
        f"{type(body).__name__}: got no list of {count} layers in it, expected one in every decoder."
    )


def _between(index: int, probe: Probe | None, changes: Interventions) -> Callable[..., Any]:
    """What happens to the residual stream before a layer finds it."""

    def hook(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        x = changes.stream(index, (inputs[0] if inputs else named["hidden_states"])[0])
        if probe:
            probe("residual", index, x)
        if inputs:
            return (x[None], *inputs[1:]), named
        return inputs, {**named, "hidden_states": x[None]}

    return hook


def _replaced(module: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """A copy of the modules that lead to `old`, with `new` in its place; all others are shared."""
    if module is old:
        return new
    if all(each is not old for each in module.modules()):
        return module
    found = copy.copy(module)
    found._modules = {
        name: child if child is None else _replaced(child, old, new)
        for name, child in module._modules.items()
    }
    return found
