"""Bits of a weight against the sizes of the blocks that are on disk."""

import gguf
import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.planning.latency.formats import FORMATS, activation_bytes, weight_format
from thermoscope.planning.memory.storage import form


@pytest.mark.parametrize("name", ["q8_0", "q6_k", "q5_k", "q4_0", "q4_1"])
def test_ggufs_bits_are_those_of_its_blocks(name):
    weights, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name.upper()]]
    assert FORMATS[name].bits == 8 * size / weights


@pytest.mark.parametrize("kept", FORMATS.values(), ids=FORMATS)
def test_the_memory_planner_knows_the_form(kept):
    assert 0.7 < 8 * form(kept.stored).matrix(4096, 4096) / 4096**2 / kept.bits < 1.3


def test_unknown_names_are_refused():
    with pytest.raises(InvalidRequest, match="weights: got 'int3', expected one of"):
        weight_format("int3")
    with pytest.raises(InvalidRequest, match="dtype: got 'int4', expected one of"):
        activation_bytes("int4")
