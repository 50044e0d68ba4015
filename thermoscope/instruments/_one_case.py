"""One prompt, one input: what the prompt does to it, and whether the card's formula says the same."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from thermoscope.errors import InvalidRequest
from thermoscope.instruments._carriers import carriers
from thermoscope.instruments._demonstrations import FEWEST, distances, positions
from thermoscope.instruments._lens import Two, by_layer
from thermoscope.instruments._oracle import oracle
from thermoscope.instruments._pairs import LEAD, LEADING
from thermoscope.instruments.shape.reading import Reading, joined
from thermoscope.instruments.shape.seam import shared

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab


def read(
    lab: "Lab",
    prompt: str,
    asked: str,
    target: str | None,
    *,
    layer: int | None,
    gamma: float | None,
    temperature: float,
    top: int,
) -> Reading:
    """The input `asked` alone and after the prompt."""
    layers = lab.model.config.layers
    if layer is not None and layer > layers:
        raise InvalidRequest(f"layer: got {layer}, expected 0 to {layers}.", param="layer")
    gap = "" if prompt[-1].isspace() or asked[0].isspace() else "\n"
    bare, whole = lab.tokens(LEAD + asked), lab.tokens(LEAD + prompt + gap + asked)
    first = _first(lab, LEAD + prompt + gap, whole)
    two = _two(lab, bare, whole)
    aim = _target(lab, LEAD + asked, bare, target) if target is not None else (int(two.prompted.argmax()),)
    layer = layers if layer is None else layer

    found = positions(lab, whole, first)
    seen = lab.replay(whole, keep=["residual"], layers=[layer], first=len(whole), param="prompt")
    demonstrations = seen.kept["residual", layer][found].double().numpy()
    several = len(found) >= FEWEST
    task = demonstrations.mean(axis=0) if several else two.prompted_states[layer]
    states = {"bare": two.bare_states[layer], "prompted": two.prompted_states[layer]}
    piece = lab.model.tokenizer.piece
    notes = [
        "∇_task = ∂ log p(target | x)/∂h: with the log-likelihood +β∇ steers towards the task; the card's "
        "sign, with a loss for L_task, would steer away. The gradient is of the float32 weights, at τ = 1.",
        f"Prompt and input are one text{', joined by a line end' if gap else ''}.",
        LEADING,
        f"Target: {''.join(map(piece, aim))!r}"
        + (", the prompted model's own best token." if target is None else ".")
        + (f" It has {len(aim)} tokens: its log p is their sum, by the chain rule." if aim[1:] else ""),
        "h_task is the mean state where the prompt's demonstrations are answered."
        if several
        else "No demonstrations found in the prompt (it does not repeat the mark that the input ends with, "
        "as -> or A:), so h_task is the prompted state itself; the distance to their subspace is left out.",
    ]
    replayed = lab.replayed(
        [reply.trace for reply in lab.generate(whole, [{"temperature": 0, "max_tokens": 1}])]
    )
    return joined(
        oracle(
            lab, bare, aim, two, task, layer=layer, gamma=gamma, temperature=temperature, top=top
        ),
        by_layer(lab, two, aim[0]),
        distances(lab, whole, first, layer, demonstrations, states) if several else Reading(),
        carriers(lab, whole, first, two.prompted, aim[0], top, temperature),
        Reading(checks=[replayed], notes=notes),
    )  # fmt: skip


def _first(lab: "Lab", prompt: str, whole: Sequence[int]) -> int:
    """The first token that is not the prompt's alone."""
    first = min(shared(lab.model.tokenizer.prompt(prompt), whole), len(whole) - 1)
    if first < 1:
        raise InvalidRequest("prompt: got no token of its own, expected some text.", param="prompt")
    return first


def _two(lab: "Lab", bare: Sequence[int], whole: Sequence[int]) -> Two:
    from thermoscope.engine.batch import Batch

    layers = range(lab.model.config.layers + 1)
    batch = lab.call(partial(Batch, sequences=[bare, whole]))
    last = lab.call(lambda _: batch.run(layers=layers))
    states = [{layer: rows[at].double().numpy() for layer, rows in last.states.items()} for at in (0, 1)]
    logits = last.logits.double().numpy()
    return Two(logits[0], logits[1], *states)


def _target(lab: "Lab", asked: str, bare: Sequence[int], target: str) -> tuple[int, ...]:
    """The tokens of the target after the input."""
    whole = lab.model.tokenizer.prompt(asked + target)
    if shared(bare, whole) < len(bare) or len(whole) == len(bare):
        raise InvalidRequest(
            f"target: got {target!r}, whose first token would be one with the input's last; begin it with a "
            "space, or take the space off the input's end.",
            param="target",
        )
    if len(whole) > lab.model.context:
        raise InvalidRequest(
            f"target: got {len(whole)} tokens with the input, expected at most {lab.model.context}, the "
            "context.",
            param="target",
        )
    return tuple(whole[len(bare) :])
