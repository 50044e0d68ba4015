import json

import pytest
from rich.table import Table

from thermoscope.cli import terminal

HARMLESS = "Zeilen\n\tund Größe, 雪, 🐳"


def test_only_control_characters_change() -> None:
    assert terminal.visible(HARMLESS) == HARMLESS
    for code in [*range(32), *range(127, 160)]:
        shown = chr(code) if chr(code) in "\n\t" else f"\\x{code:02x}"
        assert terminal.visible(f"a{chr(code)}b") == f"a{shown}b"


def test_json_is_itself_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"text": HARMLESS + "".join(map(chr, range(160)))}
    terminal.print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert terminal.visible(out) == out


def test_remarks_and_errors_are_visible(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.note("trace: \x1b[2J.json")
    terminal.complain("model: got '\x9b2J'")
    assert capsys.readouterr().err == "trace: \\x1b[2J.json\nthermoscope: model: got '\\x9b2J'\n"


def test_a_cell_is_neither_markup_nor_control(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    table.add_row(*terminal.cells("[red]x[/nonsense]", "\x1b[2J"))
    terminal.console().print(table)
    out = capsys.readouterr().out
    assert "[red]x[/nonsense]" in out
    assert "\\x1b[2J" in out
    assert "\x1b" not in out
