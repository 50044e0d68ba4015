from hypothesis import given
from hypothesis import strategies as some

from thermoscope.instruments.shape.seam import shared


@given(some.lists(some.lists(some.integers(0, 2), max_size=6), min_size=1, max_size=4))
def test_it_is_the_longest_prefix_of_one_that_all_have(texts):
    first = texts[0]
    prefixes = [size for size in range(len(first) + 1) if all(each[:size] == first[:size] for each in texts)]
    assert shared(*texts) == max(prefixes)
