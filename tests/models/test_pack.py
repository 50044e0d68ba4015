import pytest
import torch
import transformers
from gguf.constants import GGMLQuantizationType as Kind

from tests import tiny as random_models
from tests.models import tiny
from thermoscope.models import pack
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.fused import Fused
from thermoscope.models.panels import Panels
from thermoscope.models.product import Dense, Half, Int4, Int8

MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
Q4 = {f"blk.{i}.{name}.weight": Kind.Q4_1 for i in range(tiny.LAYERS) for name in MATRICES}
WIDE = Half if Half.available() else Dense


def gguf(tmp_path, kinds):
    return open_checkpoint(tiny.write_gguf(tmp_path / "m.gguf", kinds=kinds))


def products(checkpoint, precision, *, native=False):
    """Each fused product of the decoder, by layer and name."""
    decoder = pack.build(checkpoint.config, dict(pack.pack(checkpoint, precision, native=native)))
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


@pytest.mark.parametrize(
    "kind", [Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.Q4_K, Kind.Q5_K]
)
def test_the_own_kernel_keeps_every_block_as_it_is(tmp_path, kind):
    checkpoint = gguf(tmp_path, dict.fromkeys((*Q4, "token_embd.weight"), kind))
    precision = "int8" if kind is Kind.Q8_0 else "int4"
    assert not pack.rounded(checkpoint, precision)
    decoder = pack.build(checkpoint.config, dict(pack.pack(checkpoint, precision, native=True)))
    assert type(decoder) is Fused
    for (index, name), product in products(checkpoint, precision, native=True).items():
        assert torch.equal(product.weight(), weight(checkpoint, index, name))
    assert torch.equal(decoder.head.weight(), checkpoint.read("embedding").float())


def test_a_matrix_of_another_type_goes_to_the_nearest_8_bits(tmp_path):
    checkpoint = gguf(tmp_path, Q4 | {"blk.0.ffn_down.weight": Kind.Q6_K})
    assert pack.rounded(checkpoint, "int4")
    for (index, name), product in products(checkpoint, "int4", native=True).items():
        exact = weight(checkpoint, index, name)
        step = exact.view(len(exact), -1, 32).abs().amax(dim=2).repeat_interleave(32, dim=1) / 127
        rounds = (index, name) == (0, "down")
        # half a step, and what rounding the step to float16 moves its 127th multiple by
        assert ((product.weight() - exact).abs() <= rounds * step * (0.5 + 127 * 2**-11)).all()


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("kinds", [None, dict.fromkeys(Q4, Kind.Q8_0), dict.fromkeys(Q4, Kind.Q6_K)])
def test_wider_weights_can_be_rounded_to_4_bits(tmp_path, kinds, native):
    checkpoint = gguf(tmp_path, kinds)
    assert pack.rounded(checkpoint, "int4")
    for (index, name), product in products(checkpoint, "int4", native=native).items():
        exact = weight(checkpoint, index, name)
        blocks = exact.view(len(exact), -1, 32)
        step = ((blocks.amax(dim=2) - blocks.amin(dim=2)) / 15).repeat_interleave(32, dim=1)
        largest = blocks.abs().amax(dim=2).repeat_interleave(32, dim=1)
        # half a step; scale and minimum are float16, or bfloat16 in PyTorch's kernel, which adds 8 scales
        rounding = (2**-10 if native else 2**-7) * (largest + 8 * step)
        assert type(product) is (Panels if native else Int4)
        assert ((product.weight() - exact).abs() <= step / 2 + rounding).all()


def test_rows_that_are_no_blocks_fall_back_to_wider_weights(tmp_path):
    shape = random_models.SHAPE | {"hidden_size": 72, "head_dim": 16}
    network = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape))
    checkpoint = open_checkpoint(random_models.save(network, tmp_path))
    for precision in ("int4", "int8"):
        by_name = products(checkpoint, precision, native=True)
        assert type(by_name[0, "qkv"]) is WIDE  # 72 columns: PyTorch's int8 kernel crashes on them, too
        assert type(by_name[0, "down"]) is Panels  # 96


def test_the_default_is_the_files_own_blocks_or_sixteen_bits(tmp_path, monkeypatch):
    blocks, floats = gguf(tmp_path, Q4), open_checkpoint(tiny.write_gguf(tmp_path / "f.gguf"))
    five = open_checkpoint(tiny.write_gguf(tmp_path / "v.gguf", kinds=dict.fromkeys(Q4, Kind.Q5_0)))
    wide = open_checkpoint(tiny.write_gguf(tmp_path / "w.gguf", kinds=dict.fromkeys(Q4, Kind.Q8_0)))
    for available, sixteen in ((True, "fp16"), (False, "bf16")):
        monkeypatch.setattr(Half, "available", staticmethod(lambda answer=available: answer))
        for native, expected in (
            (False, ("int4", sixteen, sixteen, sixteen)),
            (True, ("int4", "int4", "int8", sixteen)),
        ):
            found = (pack.default_precision(each, native=native) for each in (blocks, five, wide, floats))
            assert tuple(found) == expected


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


@pytest.mark.parametrize("kind", random_models.CONFIGS)
def test_every_family_says_the_same_through_the_own_kernel(kind, tmp_path):
    """In the native step, or in the readable decoder where the step lacks a part: GPT-2's norms, experts."""
    checkpoint = open_checkpoint(random_models.save(random_models.reference(kind), tmp_path))
    tokens = torch.arange(2, 42)
    found = {}
    for native in (False, True):
        decoder = pack.build(checkpoint.config, dict(pack.pack(checkpoint, "int8", native=native)))
        cache = KVCache(checkpoint.config, slots=1, context=40, dtype=decoder.cache_type)
        with torch.inference_mode():
            found[native] = decoder.logits(decoder.forward(tokens.tolist(), [Span(0, 0, 40)], cache))
    assert (type(decoder) is Fused) == (kind not in ("gpt2", "mixtral", "qwen3-moe", "qwen3-moe-normed"))
    bound = 0.1 if "moe" not in kind and kind != "mixtral" else 0.5  # a router may choose another expert
    assert (found[True] - found[False]).abs().mean() <= bound * found[False].std()
