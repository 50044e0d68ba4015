import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.planning.memory.stack import LOSSES, STACKS, loss, loss_bytes, stack


def test_full_logits_grow_with_tokens_and_words():
    # Measured on Mistral-7B by four more sequences of 4,096 tokens: 12.040e9 bytes, of which 4.295e9 are
    # checkpoints.
    logits, stream = loss_bytes(loss("full-4.46"), 16384, 4096, 32000)
    assert logits + stream == pytest.approx(12.040e9 - 4.295e9, rel=0.001)


def test_a_fused_linear_loss_holds_a_chunk():
    # Liger: as many chunks as V/h, rounded so that a chunk is a power of two.
    logits, _ = loss_bytes(loss("liger"), 32768, 4096, 128256)
    assert logits == 6 * 1024 * 128256
    few, _ = loss_bytes(loss("liger"), 3, 4096, 100)
    assert few == 6 * 3 * 100


@pytest.mark.parametrize("named", [*STACKS.values(), *LOSSES.values()])
def test_every_constant_has_a_reason(named):
    assert named.reason


def test_unknown_names_are_refused():
    with pytest.raises(InvalidRequest, match="stack: got 'megatron', expected one of transformers, "):
        stack("megatron")
    with pytest.raises(InvalidRequest, match="loss: got 'none', expected one of full, "):
        loss("none")
