"""From PyTorch's kernels to the own one while the engine runs."""

import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from tests.models import tiny
from tests.models.test_model import Q4
from thermoscope.engine import language_model, upgrade
from thermoscope.engine.engine import Engine
from thermoscope.engine.request import Request, Sampling
from thermoscope.models import prepare
from thermoscope.models.kernels import build
from thermoscope.models.model import Model


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("THERMOSCOPE_CACHE", str(tmp_path / "cache"))
    return str(tiny.write_gguf(tmp_path / "tiny.gguf", kinds=Q4))


@pytest.fixture
def unbuilt(monkeypatch, kernel):
    """A machine on which the kernel is built when the child process ends."""
    there = []
    monkeypatch.setattr(build, "available", lambda: bool(there))
    commands = []

    def run(command, **options):
        commands.append(command)
        there.append(True)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(upgrade.subprocess, "run", run)
    return commands


def test_a_model_goes_over_to_the_own_kernel_and_says_so(source, unbuilt, caplog):
    with language_model.load(source, context=64) as lm:
        for thread in threading.enumerate():
            if thread.name == "upgrade":
                thread.join(timeout=60)
        assert lm.model.native
        assert unbuilt == [[sys.executable, "-m", "thermoscope.models.prepare", source]]
        assert "being built for this machine, once" in caplog.text
        reply = lm.generate([5, 6, 7], temperature=0, max_tokens=8, ignore_eos=True)
        assert reply.completion_tokens == 8


def test_an_answer_under_way_ends_in_the_arithmetic_that_it_began_in(source, kernel):
    plain, native = Model.load(source, native=False), Model.load(source, native=True)
    request = Request(prompt=(5, 6, 7), sampling=Sampling(temperature=0, max_tokens=12, ignore_eos=True))
    engine = Engine(plain, slots=2, context=64)
    first = engine.prepare(request)
    engine.submit(first)
    for _ in range(5):
        engine.step()
    engine.adopt(native, threads=1)
    assert engine.model is plain
    while engine.busy:
        engine.step()
    alone = Engine(plain, slots=2, context=64)
    expected = alone.prepare(request)
    alone.submit(expected)
    while alone.busy:
        alone.step()
    assert first.sequences[0].trace.tokens == expected.sequences[0].trace.tokens
    second = engine.prepare(request)
    engine.submit(second)
    engine.step()
    assert engine.model is native
    while engine.busy:
        engine.step()
    assert len(second.sequences[0].trace.tokens) == 12


def test_without_a_compiler_one_line_says_what_serves(source, monkeypatch, caplog):
    monkeypatch.setattr(build, "available", lambda: False)
    monkeypatch.setattr(build, "compiler", lambda: None)
    monkeypatch.setattr(upgrade.subprocess, "run", lambda *_, **__: pytest.fail("nothing to run"))
    with language_model.load(source, context=64) as lm:
        assert not lm.model.native
        assert lm.generate([5], temperature=0, max_tokens=3, ignore_eos=True).completion_tokens == 3
    assert [record.message for record in caplog.records] == [
        "kernel: no C++ compiler here, so PyTorch's kernels serve, at a fraction of the speed."
    ]


def test_a_build_that_fails_is_told_and_the_model_goes_on(source, monkeypatch, caplog, unbuilt):
    failed = SimpleNamespace(returncode=1, stderr="noise\nkernel: /usr/bin/c++ failed (boom)\n")
    monkeypatch.setattr(upgrade.subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr(build, "available", lambda: False)
    with language_model.load(source, context=64) as lm:
        thread = upgrade.start(lm.runner, source, precision=None, threads=1)
        thread.join(timeout=60)
        assert not lm.model.native
    assert "kernel: /usr/bin/c++ failed (boom); PyTorch's kernels go on serving." in caplog.text


def test_other_precisions_have_nothing_to_wait_for(source, unbuilt):
    with language_model.load(source, precision="fp32", context=64):
        assert unbuilt == []


def test_the_child_builds_and_packs(source, kernel, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prepare", source, "int4"])
    monkeypatch.setattr(prepare.os, "nice", lambda _: None)
    monkeypatch.setattr(build, "build", lambda: None)
    prepare.main()
    monkeypatch.setattr("thermoscope.models.model.open_checkpoint", lambda _: pytest.fail("packed before"))
    assert Model.load(source, precision="int4", native=True).native


def test_a_child_without_a_compiler_ends_with_one_line(source, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "thermoscope.models.prepare", source, "int4"],
        env={"PATH": str(tmp_path), "THERMOSCOPE_CACHE": str(tmp_path / "none")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("kernel: got no C++ compiler")
    assert done.stderr.count("\n") == 1


def test_a_model_that_waits_for_a_question_takes_no_processor(source, kernel):
    with language_model.load(source, context=64) as lm:
        assert lm.model.native
        lm.generate([5, 6, 7], temperature=0, max_tokens=20, ignore_eos=True)
        time.sleep(0.1)
        before, since = time.process_time(), time.monotonic()
        time.sleep(1)
        assert time.process_time() - before < 0.01 * (time.monotonic() - since)
