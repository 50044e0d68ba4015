"""Bytes of a step against those of the file."""

import pytest
import torch
from gguf import GGUFReader

from tests import tiny
from thermoscope.bench import bandwidth
from thermoscope.models.kernels import build as kernel
from thermoscope.models.model import Model


@pytest.mark.skipif(not kernel.available(), reason="the native kernel is not built here")
def test_weights_are_the_files_own_blocks(smollm2):
    """Panels hold what Q4_1 and Q8_0 blocks hold, byte for byte, and the tied head is read once."""
    stored = sum(int(tensor.n_bytes) for tensor in GGUFReader(smollm2).tensors)
    decoder = Model.load(str(smollm2), precision="int4").decoder
    forms = 24 * (4 * len(decoder.layers) + 1)  # six numbers of 32 bits beside every product
    assert bandwidth.weight_bytes(decoder) - forms == stored


def test_weights_of_a_plain_decoder_are_its_parameters(tmp_path):
    """Every number of the network in 4 bytes, the embedding once, as the head that it is tied to."""
    network = tiny.reference("llama")
    model = tiny.ours(tiny.save(network, tmp_path))
    numbers = sum(weight.numel() for weight in network.parameters())
    assert bandwidth.weight_bytes(model.decoder) == 4 * numbers


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2-windowed"])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 40])
def test_cache_bytes_count_what_every_layer_looks_at(kind, length, tmp_path):
    config = tiny.ours(tiny.save(tiny.reference(kind), tmp_path)).config
    count = 0
    for layer in range(config.layers):
        for position in range(length):
            hidden = config.windowed and config.windowed[layer] and length - position > config.window
            count += 0 if hidden else 2 * config.kv_heads * config.head_dim * 2
    assert bandwidth.cache_bytes(config, torch.float16, length) == count
