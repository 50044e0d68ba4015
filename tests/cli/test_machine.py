import shutil
import subprocess

import psutil
import pytest

from thermoscope.cli import machine

X86 = """\
processor\t: 0
model name\t: AMD EPYC
flags\t\t: fpu sse2 avx2 fma avx512f avx512_bf16 avx512_vnni amx_tile
processor\t: 1
model name\t: AMD EPYC
flags\t\t: fpu
"""
ARM = """\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes crc32 asimddp i8mm bf16
"""


def test_an_x86_processor() -> None:
    name, sets = machine.linux_processor(X86)
    assert name == "AMD EPYC"
    assert sets == ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16"]


def test_an_arm_processor() -> None:
    assert machine.linux_processor(ARM) == ("", ["neon", "dot", "i8mm", "bf16"])


def test_an_unknown_processor() -> None:
    assert machine.linux_processor("") == ("", [])


def test_this_machine() -> None:
    here = machine.look()
    assert here.cpu
    assert here.cores
    assert 0 < here.memory_free <= here.memory == psutil.virtual_memory().total


def test_graphics_cards_are_what_the_driver_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"nvidia-smi": "NVIDIA H200, 143771 MiB\n\nNVIDIA H200, 143771 MiB\n"}
    monkeypatch.setattr(shutil, "which", lambda name: name if name in answers else None)
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, answers[command[0]])
    )
    assert machine.look().gpus == ["NVIDIA H200, 143771 MiB"] * 2


def test_a_driver_that_fails_lists_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command: tuple[str, ...], **_: object) -> None:
        raise subprocess.CalledProcessError(9, command)

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", fails)
    assert machine.look().gpus == []
