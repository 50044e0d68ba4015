"""The manual, docs/cli.md, from the same options that `--help` shows.

Write it anew after a change: `python -m thermoscope.cli.manual docs/cli.md`.
"""

import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import typer.main

from thermoscope import instruments


def manual() -> str:
    """The whole manual as Markdown."""
    from thermoscope.cli import app, card

    root = typer.main.get_command(app)
    lines = ["# The command line", "", "Written by `python -m thermoscope.cli.manual docs/cli.md`.", ""]
    lines += [
        "Exit codes: 0 done, 1 `doctor` found something missing or a check of a card failed, 2 bad input (a "
        "line on stderr), 130 Ctrl-C.",
        "",
    ]
    cards = ((f"thermoscope {name}", card.command(name)) for name in instruments.names())
    for name, command in chain(_commands("thermoscope", root), cards):
        lines += [f"## {name}", "", *_text(command.help), "", *_table(command.params), ""]
    return "\n".join(lines).rstrip() + "\n"


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children or name == "thermoscope":
        yield name, command
    for child, each in children.items():
        yield from _commands(f"{name} {child}", each)


def _text(text: str | None) -> list[str]:
    return [line.strip() for line in (text or "").strip().splitlines()]


def _table(parameters: list[Any]) -> list[str]:
    shown = [each for each in parameters if "--help" not in each.opts]
    if not shown:
        return []
    rows = [f"| {_name(each)} | {each.help} | {_default(each)} |" for each in shown]
    return ["| option | what it does | default |", "|---|---|---|", *rows]


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{option}`" for option in parameter.opts)


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    unset = parameter.default is None or parameter.default is False
    return "" if unset else f"`{parameter.default}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(manual(), encoding="utf-8")
