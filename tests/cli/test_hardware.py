import json

from tests.cli.conftest import Command
from thermoscope.catalogue.hardware import names


def test_the_list_has_every_device(command: Command) -> None:
    plain = json.loads(command("hardware", "--json").out)["hardware"]
    assert [each["name"] for each in plain] == names()
    table = command("hardware").out
    assert "RTX 4090" in table
    assert "320 GB/s" in table


def test_one_device_with_its_sources(command: Command) -> None:
    plain = json.loads(command("hardware", "t4", "--json").out)
    assert plain["usable_bytes"] == 15_637_086_208
    assert plain["rates"]["fp32"] == 8.1e12
    shown = command("hardware", "t4").out
    for expected in ("14.6 GiB", "320 GB/s", "8.1 TFLOPS", "41.93 TFLOPS", "none", "datasheet"):
        assert expected in shown


def test_what_is_not_known_is_said(command: Command) -> None:
    shown = command("hardware", "A30").out.splitlines()
    assert next(line for line in shown if "usable" in line).split()[-1] == "unknown"


def test_a_misspelt_device_is_one_line(command: Command) -> None:
    done = command("hardware", "RTX 4900")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "did you mean" in done.err
