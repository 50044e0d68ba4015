"""The factors that come with the program."""

from thermoscope.planning.latency.efficiency import Efficiency, fitted


def test_factors_multiply_and_the_unknown_is_one():
    assert Efficiency({"a": 0.5, "b": 3.0}).product(("a", "b", "c")) == 1.5


def test_shipped_factors_are_shares_or_short_times():
    found = fitted()
    for name, value in found.factors.items():
        kind = name.rsplit(".", 1)[-1]
        if kind in ("pass", "host") or name in ("overhead", "link.overhead", "pcie.overhead"):
            assert 0 < value < (10 if name[0].isupper() else 1e-2), name
        else:
            assert 0.05 < value < 20, name


def test_bands_hold_one_and_say_how_many_rows():
    found = fitted()
    for spreads in (found.seen, found.unseen):
        assert {name.split(",")[0] for name in spreads} == {"component", "decode", "e2e", "prefill"}
        for spread in spreads.values():
            assert 0.3 < spread.low <= 1.05
            assert 0.95 < spread.high < 6  # prompts through quantised weights, by strangers
            assert spread.rows >= 1
