import pytest
import torch

from thermoscope.models.pack import KINDS
from thermoscope.models.product import Dense, Half, Int4, Int8

ROWS = (1, 2, 3, 5, 8, 17, 64)


def matrix(rows=48, columns=96):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(3)) * 0.1


def blocks(rows=48, columns=96):
    generator = torch.Generator().manual_seed(4)
    codes = torch.randint(0, 16, (rows, columns), generator=generator, dtype=torch.uint8)
    scale = torch.rand(rows, columns // 32, generator=generator) * 0.01 + 1e-3
    return codes, scale, -torch.rand(rows, columns // 32, generator=generator) * 0.1


def products():
    yield pytest.param(Dense(matrix()), 0.0, id="fp32")
    yield pytest.param(Dense(matrix().bfloat16()), 2**-8, id="bf16")
    yield pytest.param(Int8.quantise(matrix()), 2**-8, id="int8")
    yield pytest.param(Int4.pack(*blocks()), 2**-8, id="int4")
    if Half.available():
        yield pytest.param(Half(matrix().half()), 0.0, id="fp16")


@pytest.mark.parametrize(("product", "rounding"), list(products()))
def test_a_product_multiplies_with_the_weight_that_it_states(product, rounding):
    x = torch.randn(7, 96, generator=torch.Generator().manual_seed(5))
    seen = x.bfloat16() if rounding else x
    exact = seen.double() @ product.weight().double().T
    # The only error left is the result's own rounding, and float32's summation.
    bound = rounding * exact.abs() + 1e-4
    assert ((product(x) - exact).abs() <= bound).all()
    assert product(x).dtype == torch.float32


@pytest.mark.parametrize(("product", "rounding"), list(products()))
def test_a_product_is_made_again_from_its_state(product, rounding):
    again = KINDS[type(product).__name__](**product.state())
    x = torch.randn(3, 96)
    assert torch.equal(again(x), product(x))


def test_int4_states_its_blocks_with_scales_in_bfloat16():
    codes, scale, minimum = blocks()
    zero = (minimum + 8 * scale).bfloat16().float()
    wide = codes.view(48, 3, 32).float()
    exact = (wide - 8) * scale.bfloat16().float()[..., None] + zero[..., None]
    torch.testing.assert_close(
        Int4.pack(codes, scale, minimum).weight(), exact.view(48, 96), rtol=0, atol=1e-7
    )


def test_int4_takes_only_four_bits_and_rows_in_sixteens():
    assert Int4.takes(torch.full((16, 32), 15, dtype=torch.uint8))
    assert not Int4.takes(torch.full((16, 32), 16, dtype=torch.uint8))
    assert not Int4.takes(torch.full((24, 32), 15, dtype=torch.uint8))


def test_int8_rounds_each_weight_to_half_a_step():
    weight = matrix()
    product = Int8.quantise(weight)
    step = product.state()["scale"].float()[:, None]
    # Rounding the scale to bfloat16 can push the largest weight past code 127 by 0.4%.
    assert ((product.weight() - weight).abs() <= step * (0.5 + 127 * 2**-8)).all()


def test_a_row_of_zeros_stays_zero():
    product = Int8.quantise(torch.zeros(16, 32))
    assert (product(torch.randn(2, 32)) == 0).all()


@pytest.mark.skipif(not Half.available(), reason="this processor has no FBGEMM")
@pytest.mark.parametrize("shape", [(960, 576), (576, 1536), (49152, 64)])
def test_half_gives_a_row_the_same_bits_in_any_company(shape):
    product = Half(matrix(*shape).half())
    x = torch.randn(64, shape[1])
    whole = product(x)
    for rows in ROWS:
        assert torch.equal(product(x[:rows]), whole[:rows])
        assert torch.equal(product(x[64 - rows :]), whole[64 - rows :])
