"""Where steps begin, on texts a byte a token, and that nothing is lost or doubled."""

import random
import string

import pytest

from thermoscope.instruments._steps import steps


def of(text, first=0):
    """A token is a byte."""
    return steps(list(text.encode()), first, lambda token: bytes([token]))


def texts(text):
    return [step.text for step in of(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("She said “No.” Then 3.5 apples.", ["She said “No.” Then 3.5 apples."]),  # no space behind the stop
        ('He said "No." Then left.', ['He said "No."', "Then left."]),
        ("First line\nsecond line\n\nthird", ["First line", "second line", "third"]),
        ("1. Add 2 and 3.\n2. Halve it.", ["1. Add 2 and 3.", "2. Halve it."]),
        ("Mr. Smith has 4. Dr. Who has 5.", ["Mr. Smith has 4.", "Dr. Who has 5."]),
        ("It is 4... so what? Yes", ["It is 4...", "so what?", "Yes"]),
        ("一共五个。所以答案是五。", ["一共五个。", "所以答案是五。"]),
        ("Sum:\n---\n***\n7", ["Sum:\n---\n***", "7"]),
        ("---\nSum\n", ["---\nSum"]),
        ("", []),
        ("  ", [""]),
    ],
)
def test_sentences_and_lines(text, expected):
    assert texts(text) == expected


def test_every_token_is_in_one_step():
    dice = random.Random(3)
    for _ in range(300):
        spelled = [
            "".join(dice.choices(string.ascii_letters[:4] + " .\n?7-", k=dice.randint(0, 4))).encode()
            for _ in range(dice.randint(1, 30))
        ]
        first = dice.randint(0, 3)
        tokens = [0] * first + list(range(len(spelled)))
        found = steps(tokens, first, spelled.__getitem__)
        assert [at for step in found for at in step.tokens] == list(range(first, len(tokens)))
        assert all(len(step.tokens) for step in found)


def test_a_token_that_spans_two_steps_is_of_the_one_that_it_begins_in():
    spelled = [b"Yes", b". It", b" is", b".\n", b"\nSo"]
    assert [list(step.tokens) for step in steps(range(5), 0, spelled.__getitem__)] == [[0, 1], [2, 3], [4]]


def test_white_space_belongs_to_what_follows():
    spelled = [b"One", b".", b" ", b"Two", b".", b"\n", b"\n", b"Three"]
    found = steps(range(8), 0, spelled.__getitem__)
    assert [(step.first, step.end) for step in found] == [(0, 2), (2, 5), (5, 8)]


def test_half_a_character_is_no_end():
    whole = "Ja – 5.".encode()
    spelled = [bytes([each]) for each in whole]
    assert [step.text for step in steps(range(len(whole)), 0, spelled.__getitem__)] == ["Ja – 5."]
