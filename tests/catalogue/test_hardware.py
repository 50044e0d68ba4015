import pytest

from thermoscope.catalogue.hardware import _entries, _plain, hardware, names
from thermoscope.errors import InvalidRequest

GIB = 2**30


def test_there_are_enough_devices_each_with_its_source():
    assert len(names()) >= 45
    for name in names():
        found = hardware(name)
        assert found.name == name
        assert found.source
        assert found.checked
        assert bool(found.measured_rates) == bool(found.measured_source)


@pytest.mark.parametrize("name", names())
def test_the_numbers_are_of_their_unit(name):
    found = hardware(name)
    assert 4 * GIB <= found.memory_bytes <= 600 * GIB
    if found.usable_bytes:
        assert 0.7 < found.usable_bytes / found.memory_bytes < 1
    assert 50e9 <= found.bandwidth <= 10e12
    assert found.rates["fp16"] >= found.rates["fp32"] >= 1e12
    for rate in (*found.rates.values(), *found.measured_rates.values()):
        assert 1e11 <= rate <= 2e16
    for speed in (found.link_bandwidth, found.pcie_bandwidth):
        assert speed is None or 15e9 <= speed <= 1e12


@pytest.mark.parametrize("name", names())
def test_no_product_is_much_faster_than_its_datasheet(name):
    found = hardware(name)
    for precision, rate in found.measured_rates.items():
        if precision in found.rates:
            assert rate < 1.2 * found.rates[precision]  # consumer cards boost above their own figures


@pytest.mark.parametrize(
    ("name", "is_"),
    [
        *(("t4", "T4"), ("NVIDIA T4", "T4"), ("T4-16GB", "T4"), ("A100-80GB", "A100-SXM4-80GB")),
        *(("A100", "A100-SXM4-80GB"), ("nvidia a100-sxm4-80gb", "A100-SXM4-80GB"), ("rtx4090", "RTX 4090")),
        *(("H100", "H100-SXM5-80GB"), ("AMD MI300X", "MI300X"), ("M1 Max", "Apple M1 Max (32c)")),
    ],
)
def test_a_name_in_any_spelling(name, is_):
    assert hardware(name).name == is_


def test_an_alias_leads_to_one_device():
    leads = {}
    for entry in _entries():
        for alias in (entry["name"], *entry["aliases"]):
            assert leads.setdefault(_plain(alias), entry["name"]) == entry["name"], alias


def test_a_datasheet_and_a_measurement_by_hand():
    t4 = hardware("T4")  # NVIDIA's datasheet; usable bytes of a driver's log; two thirds of fp16 is reached
    assert (t4.memory_bytes, t4.usable_bytes) == (16 * GIB, 15_637_086_208)
    assert (t4.bandwidth, t4.rates["fp32"], t4.rates["fp16"]) == (320e9, 8.1e12, 65e12)
    assert "bf16" not in t4.rates
    assert not t4.bf16
    assert t4.rate("fp16") == t4.measured_rates["fp16"] == pytest.approx(41.93e12)
    assert t4.rate("int8") == 130e12
    assert t4.rate("fp8") is None
    assert hardware("A100-80GB").link_bandwidth == 300e9


def test_a_misspelt_name_is_answered_with_near_ones():
    with pytest.raises(InvalidRequest, match=r"got 'RTX 4900'.*did you mean .*'RTX 4090'") as caught:
        hardware("RTX 4900")
    assert caught.value.param == "gpu"
    with pytest.raises(InvalidRequest, match="lists all"):
        hardware("")
