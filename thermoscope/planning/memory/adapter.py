r"""What is trained beside frozen weights: LoRA and its kin, prefixes and prompts."""

from collections.abc import Mapping
from dataclasses import dataclass

from thermoscope.catalogue.architecture import Architecture, Matrix
from thermoscope.errors import InvalidRequest

ATTENTION = ("q", "k", "v", "o")
MLP = ("gate", "up", "down")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "attention": ATTENTION,
    "mlp": MLP,
    "all-linear": (*ATTENTION, *MLP),
}
ALIASES: Mapping[str, str] = {  # what modelling codes call the same matrices
    "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o", "dense": "o", "proj": "o",
    "gate_proj": "gate", "up_proj": "up", "down_proj": "down", "lm_head": "head",
}  # fmt: skip
LATENT: Mapping[str, tuple[str, ...]] = {  # what stands for K and V in latent attention
    "q": ("q", "q_a", "q_b"),
    "k": ("kv_a",),
    "v": ("kv_b",),
}


def targets(names: str) -> tuple[str, ...]:
    """`q,v`, `q_proj,v_proj` or `all-linear` as plain names, each once, in the order given.

    **Errors:** `InvalidRequest` for a name that is none.
    """
    found: list[str] = []
    for name in (each.strip() for each in names.split(",")):
        plain = ALIASES.get(name, name)
        if plain not in (*ATTENTION, *MLP, "head", *GROUPS):
            raise InvalidRequest(
                f"targets: got {name!r}, expected some of {', '.join((*ATTENTION, *MLP, 'head', *GROUPS))}.",
                param="targets",
            )
        found += GROUPS.get(plain, (plain,))
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, kw_only=True)
class Adapter:
    r"""LoRA: $\Delta W = s\,BA$ with A of r × columns and B of rows × r (Hu et al. 2021, arXiv 2106.09685).

    - `rank`: r. `targets`: which matrices have one, by `targets`' names.
    - `dora`: a trained magnitude for each row as well (Liu et al. 2024, arXiv 2402.09353, eq. 5).
    - `dropout`: whether the adapter's input goes through dropout, which keeps the result and a mask.
    - `width`: bytes of a trained number; peft keeps adapters in float32 whatever the model's type.

    alpha and rsLoRA change s only, a number: they cost nothing.
    """

    rank: int
    targets: tuple[str, ...] = ATTENTION
    dora: bool = False
    dropout: bool = True
    width: int = 4

    def on(self, shape: Architecture, layer: int) -> list[Matrix]:
        """The matrices of this layer that have an adapter, the router never.

        **Errors:** `InvalidRequest` where the rank is larger than a matrix, or nothing is targeted.
        """
        wanted = {name for each in self.targets for name in LATENT.get(each, (each,))} | set(self.targets)
        found = [each for each in shape.matrices(layer) if each.name.rpartition(".")[2] in wanted]
        for each in found:
            if self.rank > min(each.rows, each.columns):
                raise InvalidRequest(
                    f"rank: got {self.rank}, expected at most {min(each.rows, each.columns)}, the smaller "
                    f"side of {each.name} ({each.rows} × {each.columns}).",
                    param="rank",
                )
        return found

    def parameters(self, shape: Architecture) -> int:
        """Trained numbers: $\\sum_{\\text{targets}} r(\\text{rows} + \\text{columns})$, and the rows again
        for DoRA.
        """
        layers = [each for layer in range(shape.layers) for each in self.on(shape, layer)]
        head = [shape.head] if "head" in self.targets else []
        if not layers and not head:
            raise InvalidRequest(
                f"targets: got {', '.join(self.targets)}, expected a matrix that {shape.name} has.",
                param="targets",
            )
        return sum(
            each.count * (self.rank * (each.rows + each.columns) + each.rows * self.dora)
            for each in layers + head
        )


def prefix_parameters(shape: Architecture, tokens: int) -> int:
    r"""Prefix tuning (Li & Liang 2021): a key and a value for each token and layer, $2\,L\,n\,H_{kv}d$."""
    return tokens * shape.layers * shape.kv_values


def prompt_parameters(shape: Architecture, tokens: int) -> int:
    r"""Prompt tuning (Lester et al. 2021): an embedding for each token, $n\,h$."""
    return tokens * shape.hidden
