import pytest
import torch
from gguf.constants import GGMLQuantizationType as Kind

from tests import tiny as random_models
from tests.models import tiny
from thermoscope.errors import UnsupportedModel
from thermoscope.models import pack
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.product import Dense, Half, Int4, Int8

MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
Q4 = {f"blk.{i}.{name}.weight": Kind.Q4_1 for i in range(tiny.LAYERS) for name in MATRICES}
WIDE = Half if Half.available() else Dense


def gguf(tmp_path, kinds):
    return open_checkpoint(tiny.write_gguf(tmp_path / "m.gguf", kinds=kinds))


def products(checkpoint, precision):
    """Each fused product of the decoder, by layer and name."""
    decoder = pack.build(checkpoint.config, dict(pack.pack(checkpoint, precision)))
    return {
        (index, name): getattr(layer, name)
        for index, layer in enumerate(decoder.layers)
        for name in pack.PRODUCTS
    }


def weight(checkpoint, index, name):
    """The product's weight as the file states it."""
    parts = [checkpoint.read(f"layers.{index}.{part}") for part in pack.PRODUCTS[name]]
    return torch.cat(parts).float()


@pytest.mark.parametrize(
    ("precision", "kind", "relative"),
    [
        ("fp32", Dense, 0.0),
        ("fp16", WIDE, 2**-11),
        ("bf16", Dense, 2**-8),
        ("int8", Int8, None),
        ("int4", Int4, None),
    ],
)
def test_each_precision_holds_the_files_weights_to_its_own_rounding(tmp_path, precision, kind, relative):
    checkpoint = gguf(tmp_path, Q4)
    for (index, name), product in products(checkpoint, precision).items():
        exact = weight(checkpoint, index, name)
        assert type(product) is kind
        error = (product.weight() - exact).abs()
        if precision == "int8":  # half a step of 1/127 of the row's largest, and the scale's own rounding
            assert (error <= exact.abs().amax(dim=1, keepdim=True) * (0.5 / 127 + 2**-8)).all()
        elif precision == "int4":  # codes as they are, scale and zero in bfloat16
            block = exact.view(len(exact), -1, 32).abs().amax(dim=2).repeat_interleave(32, dim=1)
            assert (error <= 3 * 2**-8 * block + 1e-6).all()
        else:
            assert (error <= relative * exact.abs() + 1e-7).all()


def test_neighbours_that_read_the_same_input_are_one_product(tmp_path):
    fused = products(gguf(tmp_path, None), "fp32")
    kv = tiny.HIDDEN // tiny.HEADS * tiny.KV_HEADS
    assert fused[0, "qkv"].weight().shape == (tiny.HIDDEN + 2 * kv, tiny.HIDDEN)
    assert fused[1, "gate_up"].weight().shape == (2 * tiny.FFN, tiny.HIDDEN)


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q6_K, Kind.Q5_0, Kind.F16])
def test_int4_keeps_sixteen_bits_where_a_tensor_is_no_4_bit_blocks(tmp_path, kind):
    kinds = Q4 | {"blk.1.ffn_down.weight": kind, "blk.0.attn_v.weight": kind}
    checkpoint = gguf(tmp_path, kinds)
    for place, product in products(checkpoint, "int4").items():
        if place in {(1, "down"), (0, "qkv")}:  # v is a part of the fused product
            assert type(product) is WIDE
            exact = weight(checkpoint, *place)
            torch.testing.assert_close(product.weight(), exact, rtol=2**-8, atol=1e-6)
        else:
            assert type(product) is Int4


@pytest.mark.parametrize("kinds", [None, dict.fromkeys(Q4, Kind.Q8_0), dict.fromkeys(Q4, Kind.Q6_K)])
def test_a_gguf_file_without_4_bit_blocks_is_refused_for_int4(tmp_path, kinds):
    checkpoint = gguf(tmp_path, kinds)
    with pytest.raises(UnsupportedModel, match=r"without 4-bit blocks, expected Q4_0.* take fp16") as caught:
        list(pack.pack(checkpoint, "int4"))
    assert "\n" not in str(caught.value)


def test_a_folder_of_float_weights_is_refused_for_int4(tmp_path):
    folder = random_models.save(random_models.reference("llama"), tmp_path)
    with pytest.raises(UnsupportedModel, match="without 4-bit blocks"):
        list(pack.pack(open_checkpoint(folder), "int4"))


def test_the_default_is_the_files_own_4_bits_or_sixteen(tmp_path, monkeypatch):
    blocks, floats = gguf(tmp_path, Q4), open_checkpoint(tiny.write_gguf(tmp_path / "f.gguf"))
    wide = open_checkpoint(tiny.write_gguf(tmp_path / "w.gguf", kinds=dict.fromkeys(Q4, Kind.Q8_0)))
    for available, sixteen in ((True, "fp16"), (False, "bf16")):
        monkeypatch.setattr(Half, "available", staticmethod(lambda answer=available: answer))
        assert pack.default_precision(blocks) == "int4"
        assert pack.default_precision(floats) == sixteen
        assert pack.default_precision(wide) == sixteen


def test_without_the_float16_kernel_weights_are_widened_or_rounded_to_bfloat16(tmp_path, monkeypatch):
    checkpoint = gguf(tmp_path, Q4 | {"blk.0.ffn_down.weight": Kind.Q8_0})
    monkeypatch.setattr(Half, "available", staticmethod(lambda: False))
    assert {type(product) for product in products(checkpoint, "fp16").values()} == {Dense}
    down = products(checkpoint, "int4")[0, "down"]
    assert type(down) is Dense
    assert down.state()["weight"].dtype == torch.bfloat16


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_norms_biases_and_logits_stay_float32_in_every_precision(tmp_path, precision):
    network = random_models.reference("qwen2")
    model = random_models.ours(random_models.save(network, tmp_path), precision)
    for index, layer in enumerate(model.decoder.layers):
        attention = network.model.layers[index].self_attn
        bias = torch.cat([attention.q_proj.bias, attention.k_proj.bias, attention.v_proj.bias])
        assert torch.equal(layer.qkv_bias, bias.detach())
        assert torch.equal(layer.attention_norm, network.model.layers[index].input_layernorm.weight.detach())
    assert model.decoder.final_norm.dtype == torch.float32
    assert model.decoder.logits(torch.randn(2, 64)).dtype == torch.float32


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_a_head_of_its_own_is_kept_and_a_tied_one_is_the_embedding(tmp_path, precision):
    bound = 0.0 if precision == "fp32" else 2**-11
    for kind in ("llama", "qwen3"):
        network = random_models.reference(kind)
        model = random_models.ours(random_models.save(network, tmp_path / kind), precision)
        head = network.lm_head.weight.detach()
        assert model.config.tied == torch.equal(head, network.model.embed_tokens.weight)
        assert ((model.decoder.head.weight() - head).abs() <= bound * head.abs() + 1e-7).all()
