"""The list of commands, in which a card costs nothing until it is run."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

from thermoscope import instruments

PANEL = "Cards"


class Commands(TyperGroup):
    """The commands that are written out, and one for each instrument, made only when it is run."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: D102
        return [*super().list_commands(ctx), *instruments.names()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: D102
        found = super().get_command(ctx, cmd_name)
        if found is not None or cmd_name not in instruments.names():
            return found
        # What a list of commands shows of it; its options would take all instruments to import.
        return TyperCommand(cmd_name, help=instruments.question(cmd_name), rich_help_panel=PANEL)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: D102
        if args[0] in instruments.names():
            from thermoscope.cli.card import command

            self.add_command(command(args[0]), args[0])
        return super().resolve_command(ctx, args)
