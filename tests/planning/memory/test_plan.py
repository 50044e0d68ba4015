from thermoscope.planning.memory.plan import Plan, nonzero


def test_the_peak_is_the_greatest_phase_never_the_sum():
    plan = Plan({"one": {"a": 3.0, "b": 4.0}, "two": {"a": 6.0}}, {"a": 3.0})
    assert (plan.peak, plan.peak_phase) == (7.0, "one")


def test_what_takes_nothing_is_not_listed():
    assert nonzero({"a": 0.0, "b": 1.0}) == {"b": 1.0}
