import pytest

from tests.planning.memory.shapes import QWEN, SMALL
from thermoscope.errors import InvalidRequest
from thermoscope.planning.memory.optimizer import step


@pytest.mark.parametrize(
    ("name", "states", "temporary"),
    [
        ("adamw", 8, 4),
        ("adamw-fused", 8, 0),
        ("adamw-8bit", 2 * (1 + 4 / 256), 0),
        ("paged-adamw", 8, 0),
        ("lion", 4, 0),
        ("sgd", 0, 0),
        ("sgd-momentum", 4, 0),
    ],
)
def test_bytes_for_a_float32_number(name, states, temporary):
    found = step(name, SMALL, 1000, 4, whole=False)
    assert (found.states, found.temporary) == (1000 * states, 1000 * temporary)


@pytest.mark.parametrize("name", ["adamw", "sgd-momentum", "adafactor"])
def test_states_are_those_of_the_real_optimizer(name):
    """torch's own optimizers, on parameters of the model's shapes."""
    import torch

    tables = [(64, 256), (64, 256)]
    layer = [
        (256, 256),
        (128, 256),
        (128, 256),
        (256, 256),
        (704, 256),
        (704, 256),
        (256, 704),
        (256,),
        (256,),
    ]
    weights = [torch.nn.Parameter(torch.zeros(size)) for size in [*tables, *2 * layer, (256,)]]
    real = {
        "adamw": torch.optim.AdamW,
        "sgd-momentum": lambda each: torch.optim.SGD(each, momentum=0.9),
        "adafactor": torch.optim.Adafactor,
    }[name](weights)
    for each in weights:
        each.grad = torch.ones_like(each)
    real.step()
    kept = sum(
        value.nbytes for state in real.state.values() for value in state.values() if torch.is_tensor(value)
        and value.dim() > 0
    )  # fmt: skip
    counted = step(name, SMALL, SMALL.parameters, 4, whole=True).states
    assert counted == pytest.approx(kept, rel=0.01)


def test_muon_keeps_one_moment_of_matrices_and_two_of_tables():
    found = step("muon", QWEN, QWEN.parameters, 2, whole=True)
    tables = 151936 * 1024
    assert found.states == 2 * (QWEN.parameters - tables) + 4 * tables


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(InvalidRequest, match="optimizer: got 'adam', expected one of adamw, "):
        step("adam", SMALL, 1, 4, whole=False)
