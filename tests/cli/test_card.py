"""A command made from an instrument's settings."""

import json
import sys

import pytest

from tests.instruments.conftest import toy  # noqa: F401
from thermoscope.cli import card
from thermoscope.instruments.shape.reading import Check, Reading


@pytest.fixture
def coin(toy, model, command):  # noqa: F811
    return lambda *arguments, **piped: command("coin", *arguments, **piped)


def printed(outcome):
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_options_are_the_settings(coin):
    said = printed(coin("--json", "--p", "0.25", "--sides", "up,down", "--tosses", "3"))
    assert said["settings"] == {
        "p": 0.25, "sides": ["up", "down"], "tosses": 3, "faces": 2, "notes": None
    }  # fmt: skip
    assert [row["side"] for row in said["tables"]["sides"]["rows"]] == ["up", "down"]
    assert printed(coin("--json", "--faces", "6"))["settings"]["faces"] == 6


def test_a_list_whose_values_hold_commas_is_json(coin):
    said = printed(coin("--json", "--sides", '["one, two", "three"]'))
    assert said["settings"]["sides"] == ["one, two", "three"]


def test_a_file_is_read_from_its_path(coin, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"12345")
    said = printed(coin("--json", "--notes", str(path)))
    assert said["settings"]["notes"]["name"] == "notes.txt"
    assert said["tables"]["sides"]["rows"][0]["bytes"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--p", "2"), "p: got 2.0, expected less than or equal to 1."),
        (("--p", "nan"), "p: got nan, expected"),
        (("--p", "much"), "Invalid value for '--p': "),
        (("--tosses", "0"), "tosses: got 0, expected greater than or equal to 1."),
        (("--sides", "one"), "sides: got ['one'], expected at least 2 items"),
        (("--sides", '["a", null]'), "sides[1]: got null, expected a valid string"),
        (("--faces", "3"), "faces: got 3, expected 2 or 6"),
        (("--sides", '["broken'), "--sides: got '[\"broken', expected values with commas between"),
        (("--notes", "nothing"), "nothing: No such file or directory"),
        (("--tempo", "1"), "No such option: --tempo"),
        (("--figure", "out.pdf"), "--figure: got 'out.pdf', expected a name that ends in .html or .png."),
        (("--sides", "up,\udcff"), "--sides: got bytes that are not UTF-8"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(coin, arguments, message):
    outcome = coin(*arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""


def test_tables_and_checks_are_shown(coin):
    outcome = coin("--p", "0.5")
    assert outcome.code == 0
    for text in (
        "What does a coin do?",
        "Heads comes up",
        "probability",
        "heads",
        "0.5",
        "Σ p = 1",
        "passed",
    ):
        assert text in outcome.out


def test_the_figure_is_a_page(coin, tmp_path):
    path = tmp_path / "coin.html"
    outcome = coin("--figure", str(path))
    assert outcome.code == 0
    assert outcome.err == f"figure: {path}\n"
    assert "What does a coin do?" in path.read_text(encoding="utf-8")


def test_a_failed_check_is_shown_and_exit_code_1(coin, monkeypatch):
    from thermoscope.instruments import Instrument

    wrong = Reading(question="?", checks=[Check("1 = 2", "counted", 1.0, 0.0)])
    monkeypatch.setattr(Instrument, "read", lambda *_: wrong)
    outcome = coin()
    assert outcome.code == 1
    assert "FAILED" in outcome.out
    assert coin("--json").code == 1


def test_help_says_what_an_option_means_and_its_default(coin):
    shown = coin("--help").out
    for text in ("What does a coin do?", "Probability of heads.", "0.5", "heads,tails", "A file to keep"):
        assert text in shown


def test_an_unknown_command_is_refused(command):
    outcome = command("coins")
    assert outcome.code == 2
    assert "No such command 'coins'" in outcome.err


def test_a_list_of_commands_imports_no_instrument(toy, command, monkeypatch):  # noqa: F811
    monkeypatch.delitem(sys.modules, "thermoscope.instruments.coin", raising=False)
    assert "coin" in command("--help").out
    assert "thermoscope.instruments.coin" not in sys.modules
    assert card.command("coin").name == "coin"
