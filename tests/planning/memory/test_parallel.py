import pytest

from tests.planning.memory.shapes import MISTRAL, MIXTURE
from thermoscope.errors import InvalidRequest
from thermoscope.planning.memory.parallel import Parallel


def test_devices_multiply_and_experts_share_replicas():
    assert Parallel(data=4, sharding="fsdp2", tensor=2, pipeline=3, context=2, expert=4).devices == 48


@pytest.mark.parametrize(
    ("degrees", "message"),
    [
        ({"tensor": 3}, "tensor: got 3, expected a divisor of 32, the heads."),
        ({"tensor": 16}, "tensor: got 16, expected a divisor of 8, the KV heads."),
        ({"pipeline": 5}, "pipeline: got 5, expected a divisor of 32, the layers."),
        ({"context": 3}, "context: got 3, expected a divisor of 4096, the tokens."),
        ({"expert": 2}, "expert: got 2, expected a divisor of 1, the experts."),
        ({"data": 2}, "sharding: got none with 2 replicas, expected one of ddp, zero1"),
        ({"data": 0}, "data: got 0, expected a whole number, 1 or more."),
    ],
)
def test_degrees_that_do_not_divide_are_refused(degrees, message):
    with pytest.raises(InvalidRequest) as caught:
        Parallel(**degrees).check(MISTRAL, 4096)
    assert str(caught.value).startswith(message)


def test_expert_parallelism_needs_replicas():
    with pytest.raises(InvalidRequest, match="expert: got 4, expected a divisor of 2, the replicas"):
        Parallel(data=2, sharding="ddp", expert=4).check(MIXTURE, 256)
