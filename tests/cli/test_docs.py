from pathlib import Path

from tests.cli.conftest import Command
from thermoscope.cli.manual import manual

MANUAL = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_manual_is_current() -> None:
    assert MANUAL.read_text(encoding="utf-8") == manual(), "run: python -m thermoscope.cli.manual docs/cli.md"


def test_the_manual_has_every_command_and_option(command: Command) -> None:
    text = manual()
    for name in ("run", "chat", "serve", "bench", "models list", "models pull", "models show", "doctor"):
        assert f"## thermoscope {name}\n" in text
    for option in ("--temperature", "--logit-bias", "--trace", "--alias", "--insecure"):
        assert f"`{option}`" in text
    assert "| 512, or what the context leaves |" in text
