"""Passages of a text: where they begin, that they share nothing, and a text that is too short."""

import json

import pytest

from benchmarks.studies.passages import passages
from thermoscope.errors import InvalidRequest


class Words:
    """A tokenizer whose tokens are words."""

    def prompt(self, text):
        return tuple(text.split())


TEXT = """Heading

one two three
four five six

seven eight

nine ten eleven twelve thirteen

fourteen fifteen sixteen seventeen"""


def test_a_passage_begins_with_a_paragraph_long_enough_and_runs_on(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    first, second = passages(path, Words(), count=2, prefix=3, tokens=4)
    assert first == (("one", "two", "three"), ("four", "five", "six", "seven"))
    assert second == (("nine", "ten", "eleven"), ("twelve", "thirteen", "fourteen", "fifteen"))


def test_more_passages_begin_with_the_same_ones(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    few, many = (passages(path, Words(), count=count, prefix=3, tokens=4) for count in (1, 2))
    assert few == many[:1]


def test_json_lines_give_the_strings_of_their_rows(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text("\n".join(json.dumps({"question": "one two three", "n": 1}) for _ in range(3)))
    assert passages(path, Words(), count=3, prefix=1, tokens=2) == [(("one",), ("two", "three"))] * 3


def test_a_short_text_is_refused_in_one_line(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    with pytest.raises(InvalidRequest, match=r"got 2 passages of 3 \+ 4 tokens in text\.txt, expected 9"):
        passages(path, Words(), count=9, prefix=3, tokens=4)
