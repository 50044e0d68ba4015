"""The own product against float64: exact on the rounded activations, bounded on those that were given."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType as Kind
from gguf.quants import dequantize
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.models.tiny import packed
from thermoscope.errors import BadModelFile
from thermoscope.models.checkpoint import Blocks
from thermoscope.models.gguf_blocks import unpack
from thermoscope.models.kernels import build
from thermoscope.models.pack import KINDS
from thermoscope.models.panels import Panels, quantise

pytestmark = pytest.mark.usefixtures("compiled")

IN_BLOCKS = (Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.Q4_K, Kind.Q5_K)
SHAPES = ((16, 32), (1, 32), (40, 96), (17, 512), (48, 1056))
EPSILON = 2.0**-24


def stored(kind, out=40, columns=256, seed=0):
    """A matrix of a GGUF file: its blocks, and what `gguf` makes of its bytes."""
    values = np.random.default_rng(seed).standard_normal((out, columns), np.float32)
    rows = packed(values, kind, seed)
    return unpack(rows, kind), torch.from_numpy(dequantize(rows, kind))


def panels(out, columns, bits, seed=1, terms=1):
    weight = torch.randn(out, columns, generator=torch.Generator().manual_seed(seed))
    return Panels.pack([quantise(weight, bits)], terms=terms)


def rows(count, columns, seed=2):
    return torch.randn(count, columns, generator=torch.Generator().manual_seed(seed))


def adversarial(columns):
    """Rows of zeros, of denormals, at the edge of what counts as zero, with one huge number among small."""
    usual = rows(8, columns)
    usual[0] = 0
    usual[1] *= 1e-40
    usual[2] *= 3e-36
    usual[3] *= 1e-30
    usual[4, columns // 2] = 1e8
    usual[5, 1::2] = 0
    usual[6] = 127 * usual[6].sign()
    usual[7] *= 1e30
    return usual


def rounded(x):
    """Codes and scales of groups of 32, by the definition: the greatest size is 127 steps, ties to even."""
    groups = x.numpy().reshape(len(x), -1, 32)
    most = np.abs(groups).max(axis=2, keepdims=True)
    some = most > np.float32(1e-35)
    with np.errstate(divide="ignore", over="ignore"):
        codes = np.rint(groups * np.where(some, np.float32(127) / most, np.float32(0)))
    scales = np.where(some, most / np.float32(127), np.float32(0))
    assert codes.dtype == scales.dtype == np.float32
    return codes.astype(np.float64), scales.astype(np.float64)


def test_each_row_is_rounded_as_the_definition_says():
    identity = Blocks(torch.eye(32, dtype=torch.uint8), torch.ones(32, 1), torch.zeros(32, 1))
    x = torch.cat([adversarial(32), rows(200, 32)])
    codes, scales = rounded(x)
    expected = (codes * scales).reshape(len(x), 32)
    assert torch.equal(Panels.pack([identity])(x), torch.from_numpy(expected).float())


@pytest.mark.parametrize("kind", IN_BLOCKS, ids=lambda kind: kind.name)
def test_a_file_s_blocks_are_kept_to_the_bit(kind):
    blocks, expected = stored(kind)
    product = Panels.pack([blocks])
    assert torch.equal(product.weight(), expected)
    again = KINDS["Panels"](**product.state())
    assert torch.equal(again.weight(), expected)
    bits = 8 if kind in (Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.Q5_K) else 4
    numbers = {Kind.Q4_0: 2, Kind.Q5_0: 2, Kind.Q8_0: 2, Kind.Q4_1: 4, Kind.Q5_1: 4}.get(kind, 8)
    assert product.state()["panels"].nbytes == 48 * 256 // 32 * (4 * bits + numbers)  # 40 rows fill up 48


def test_matrices_of_several_kinds_are_one_product_to_the_bit():
    parts = [stored(kind, out=24 + index, seed=index) for index, kind in enumerate(IN_BLOCKS)]
    product = Panels.pack([blocks for blocks, _ in parts])
    assert torch.equal(product.weight(), torch.cat([weight for _, weight in parts]))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_matrix_is_rounded_to_half_a_step(bits):
    weight = torch.randn(24, 96, generator=torch.Generator().manual_seed(3)).double()
    weight[0] = 0
    weight[1] = 5
    weight[2] += 100
    blocks = quantise(weight.float(), bits)
    assert int(blocks.codes.max()) < 2**bits
    far = (Panels.pack([blocks]).weight() - weight).abs().view(24, 3, 32)
    # Half a step; and what rounding the ends to half precision, 2^-11 of them, leaves out of reach.
    ends = weight.view(24, 3, 32).abs().amax(2)
    assert (far <= (blocks.scale / 2 + 2 * 2.0**-11 * ends)[..., None] + 1e-7).all()
    assert (far[0] == 0).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_the_float64_one_of_the_rounded_rows(shape, bits):
    product, x = panels(*shape, bits), torch.cat([adversarial(shape[1]), rows(9, shape[1])])
    weight = product.weight().double().numpy()
    codes, scales = rounded(x)
    near = (codes * scales).reshape(len(x), -1)
    y = product(x).double().numpy()
    # Each block adds minimum · Σ codes and scale · Σ codes · codes, both times the group's scale: at most
    # three roundings of their own, and two of the sum. Since |minimum| <= 1.01 max |w| and
    # |scale · code| <= |w| + |minimum|, the terms are no larger together than:
    parts = np.abs(weight).reshape(shape[0], -1, 32).max(2), 32 * 127 * scales[..., 0]
    terms = np.einsum("ob,rb->ro", 4 * parts[0], parts[1])
    bound = (2 * shape[1] / 32 + 4) * EPSILON * terms + 1e-43
    assert (np.abs(y - near @ weight.T) <= bound).all()
    # Against x itself: each number is at most half a step of its group away, or below 1e-35 all of itself.
    step = np.where(scales > 0, scales / 2, 1e-35) * (1 + 127 * 2**-22)
    off = np.einsum("ob,rb->ro", np.abs(weight).reshape(shape[0], -1, 32).sum(2), step[..., 0])
    assert (np.abs(y - x.double().numpy() @ weight.T) <= off + bound).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_with_two_terms_a_row_is_known_to_15_bits(shape, bits):
    product = panels(*shape, bits, terms=2)
    x = torch.cat([adversarial(shape[1]), rows(9, shape[1])])
    weight = product.weight().double().numpy()
    blocks = np.abs(weight).reshape(shape[0], -1, 32)
    most = np.abs(x.double().numpy()).reshape(len(x), -1, 32).max(2)
    # Half a step of the second term, which is 1/254 of the first's, or below 1e-35 all of the number; and
    # what float32 makes of the sums: of terms no larger than |minimum| + |scale · code| = 4 max |w| a column.
    step = np.where(most > 1e-35, most / 127 / 254 / 2, 1e-35) * 1.01
    bound = np.einsum("ob,rb->ro", blocks.sum(2), step)
    bound += (4 * shape[1] / 32 + 8) * EPSILON * np.einsum("ob,rb->ro", 4 * 32 * blocks.max(2), most) + 1e-43
    assert (np.abs(product(x).double().numpy() - x.double().numpy() @ weight.T) <= bound).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_what_is_no_number_makes_its_own_row_none(bits, bad):
    product, x = panels(40, 96, bits), rows(11, 96)
    expected = product(x)
    x[4, 50] = bad
    x[9, 0] = bad
    y = product(x)
    which = torch.tensor([4, 9])
    assert y[which].isnan().all()
    others = torch.ones(11, dtype=torch.bool).index_fill(0, which, False)
    assert torch.equal(y[others], expected[others])


@pytest.fixture
def threads():
    library = build.loaded()
    usual = library.threads
    yield lambda number: setattr(library, "threads", number)
    library.threads = usual


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", [(40, 96), (1, 32), (200, 512)])
def test_a_row_is_the_same_bits_in_any_company_and_on_any_threads(shape, bits, threads):
    product = panels(*shape, bits, terms=1 + (bits == 4))
    x = torch.cat([adversarial(shape[1]), rows(192, shape[1])])
    whole = product(x)
    for number in (1, 2, 3):
        threads(number)
        assert torch.equal(product(x), whole)
        for count in range(1, 65):
            assert torch.equal(product(x[:count]), whole[:count])
            assert torch.equal(product(x[200 - count :]), whole[200 - count :])
    assert torch.equal(torch.cat([product(row[None]) for row in x]), whole)
    assert product(x[:0]).shape == (0, shape[0])


def test_rows_need_not_stand_together_in_memory():
    product, x = panels(40, 96, 4), rows(96, 6)
    assert torch.equal(product(x.T), product(x.T.contiguous()))


def arguments(product, count=3):
    held = product.state()
    out, columns, bits, wide, zero, terms = held["form"].tolist()
    return rows(count, columns), held["panels"], out, bits, bool(wide), zero, terms


@pytest.mark.parametrize("bits", [4, 8])
def test_the_operator_keeps_pytorch_s_rules(bits):
    results = torch.library.opcheck(
        torch.ops.thermoscope.panels_linear.default, arguments(panels(40, 96, bits))
    )
    assert set(results.values()) == {"SUCCESS"}


def test_the_operator_has_a_shape_without_numbers():
    real = arguments(panels(40, 96, 4), count=5)
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(each) if isinstance(each, torch.Tensor) else each for each in real]
        y = torch.ops.thermoscope.panels_linear(*fake)
    assert y.shape == (5, 40)
    assert y.dtype == torch.float32


def test_a_row_of_the_wrong_length_or_type_is_refused():
    product = panels(40, 96, 4)
    with pytest.raises(ValueError, match=r"got \[2, 64\] in torch\.float32, expected"):
        product(rows(2, 64))
    with pytest.raises(ValueError, match=r"got \[2, 96\] in torch\.float64, expected float32"):
        product(rows(2, 96).double())


def test_a_compiled_function_gives_the_same_bits():
    product, x = panels(40, 96, 4), rows(5, 96)
    compiled = torch.compile(lambda x: product(x) + 1, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), product(x) + 1)


def test_a_forked_child_has_threads_of_its_own():
    """It inherits none; a call in it must not wait for them."""
    program = (
        "import os, sys, time, torch\n"
        "from thermoscope.models.panels import Panels, quantise\n"
        "product = Panels.pack([quantise(torch.ones(40, 96), 4)])\n"
        "product(torch.ones(3, 96))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(int(not torch.equal(product(torch.ones(3, 96)), torch.full((3, 40), 96.0))))\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_damaged_panels_are_refused():
    state = panels(40, 96, 4).state()
    for panel, form in ((state["panels"][:-1], state["form"]), (state["panels"], state["form"] * 2)):
        with pytest.raises(BadModelFile, match=r"panels: got .* bytes, expected .*; delete the packed model"):
            Panels(panel, form).matrix()
