"""llama.cpp's programs as we call them, played by scripts."""

import json

import pytest

from thermoscope.bench import llama
from thermoscope.errors import ThermoscopeError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of programs that write down how they were called."""

    def program(name, output, code=0):
        script = (
            f"#!/bin/sh\necho \"$@\" > {tmp_path}/called\necho '{output}'\necho 'no: '$0 >&2\nexit {code}\n"
        )
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)

    program("llama-bench", json.dumps([{"avg_ts": 12.5}]))
    program("llama-batched-bench", 'noise\n{"speed_tg": 99.5}')
    program("llama-broken", "", 3)
    monkeypatch.setenv(llama.FOLDER, str(tmp_path))
    return tmp_path


def called(folder):
    return (folder / "called").read_text().split()


def test_the_variable_names_the_folder(folder, monkeypatch):
    assert llama.find() == folder
    monkeypatch.setenv(llama.FOLDER, str(folder / "none"))
    with pytest.raises(ThermoscopeError, match="expected a folder that holds llama-bench"):
        llama.find()


def test_path_is_looked_at_last(folder, monkeypatch):
    monkeypatch.delenv(llama.FOLDER)
    monkeypatch.setattr(llama, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(folder))
    assert llama.find() == folder
    monkeypatch.setenv("PATH", "/nowhere")
    assert llama.find() is None


def test_lengths_are_handed_on_and_figures_read(folder, tmp_path):
    model = tmp_path / "m.gguf"
    assert llama.decode(folder, model, depth=128, tokens=32, threads=2) == 12.5
    assert called(folder)[-6:] == ["-p", "0", "-n", "32", "-d", "128"]
    assert llama.prefill(folder, model, prompt=512, threads=2) == 12.5
    assert called(folder)[-4:] == ["-p", "512", "-n", "0"]
    assert llama.batched(folder, model, batch=8, depth=128, tokens=32, threads=2) == 99.5
    assert "-npp 128 -ntg 32 -npl 8 -c 1280" in " ".join(called(folder))


def test_a_failure_is_a_line(folder):
    with pytest.raises(ThermoscopeError, match=r"llama-broken: no: .*llama-broken$"):
        llama.run(folder, "llama-broken", [])
    with pytest.raises(ThermoscopeError, match="llama-none: "):
        llama.run(folder, "llama-none", [])
