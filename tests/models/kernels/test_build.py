"""What can go wrong with a compiler, a cache and a processor.

Compilers here are scripts, most of which copy one real build.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from thermoscope.errors import KernelUnavailable
from thermoscope.models.kernels import build
from thermoscope.models.kernels.native import Library


@pytest.fixture(autouse=True)
def cache(tmp_path):
    """An empty cache, and no library from another test; afterwards that of all tests again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THERMOSCOPE_CACHE", str(tmp_path / "cache"))
        forget()
        yield tmp_path / "cache" / "kernels"
    forget()
    build.available()


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Makes CXX a shell script; gives the file in which it counts its calls."""

    def make(text, name="compiler"):
        script, calls = tmp_path / name, tmp_path / "calls"
        script.write_text(f'#!/bin/sh\necho >> "{calls}"\nfor out; do :; done\n{text}\n')
        script.chmod(0o755)
        monkeypatch.setenv("CXX", str(script))
        return calls

    return make


@pytest.fixture
def copying(compiler, compiled):
    """A compiler that copies what was compiled before."""
    return compiler(f'cp "{compiled.path}" "$out"')


def forget():
    build.loaded.cache_clear()
    build.look_again()


def count(calls):
    return len(calls.read_text().splitlines())


def test_a_build_is_made_once_kept_and_loaded(copying, cache):
    assert build.built() is None
    with pytest.raises(KernelUnavailable, match="not built on this machine yet; run `thermoscope doctor`"):
        build.loaded()
    assert not build.available()
    made = build.build()
    assert made == build.build() == build.built()
    assert made.path.parent == cache
    assert build.available()
    assert build.loaded().fault() is None
    assert count(copying) == 1
    about = json.loads(made.path.with_suffix(".json").read_text())
    assert about["compiler"] == os.environ["CXX"]
    assert sorted(each.suffix for each in cache.iterdir()) == [".json", ".lock", ".so"]


def test_without_a_compiler_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(KernelUnavailable, match=r"got no C\+\+ compiler.*apt-get install g\+\+"):
        build.build()
    assert not build.available()


def test_a_compiler_that_is_not_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "missing"))
    with pytest.raises(KernelUnavailable, match=r"got no C\+\+ compiler"):
        build.build()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'x.cpp:1: error: no such thing' >&2; exit 1", "x.cpp:1: error: no such thing"),
        ("exit 3", "exit 3"),
        ("kill -9 $$", "exit -9"),
        ("printf 'error: \\377\\376' >&2; exit 1", "error: "),  # no UTF-8
        ("exit 0", "exit 0"),  # writes nothing
        ('echo garbage > "$out"', "invalid ELF header|file too short"),
        (': > "$out"', "file too short"),
    ],
)
def test_a_broken_compiler_is_told_and_leaves_nothing(compiler, compiled, cache, script, said):
    compiler(script)
    with pytest.raises(KernelUnavailable, match=said) as caught:
        build.build()
    assert "set CXX to another" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert build.built() is None
    assert [each.suffix for each in cache.iterdir()] == [".lock"]
    compiler(f'cp "{compiled.path}" "$out"', name="sound")  # the way out that the message names
    assert build.build() == build.built()


def test_a_compiler_that_hangs_is_given_up(compiler, monkeypatch):
    compiler("exec sleep 60")
    monkeypatch.setattr(build, "PATIENCE", 0.2)
    with pytest.raises(KernelUnavailable, match=r"timed out.*set CXX"):
        build.build()


def test_a_compiler_may_have_arguments(compiler, compiled, monkeypatch):
    compiler(f'test "$1" = -m64 && cp "{compiled.path}" "$out"')
    monkeypatch.setenv("CXX", os.environ["CXX"] + " -m64")
    assert build.build() == build.built()


@pytest.mark.timeout(120)
def test_a_compiler_that_computes_wrong_is_caught(compiler, compiled, tmp_path, cache):
    """A wrong build by hand: the same sources, but for one sign."""
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for name in (*build.SOURCES, *build.HEADERS):
        (wrong / name).write_text((build.FOLDER / name).read_text())
    text = (wrong / "blocks.cpp").read_text()
    assert text.count("to.sums[term * groups + b] = scale * float(sum);") == 1
    (wrong / "blocks.cpp").write_text(text.replace("+ b] = scale *", "+ b] = -scale *"))
    used = json.loads(compiled.path.with_suffix(".json").read_text())["compiler"]
    compiler(f'{used} -std=c++20 -O1 -fPIC -shared -pthread {build._native()} "{wrong}"/*.cpp -o "$out"')
    with pytest.raises(KernelUnavailable, match=r"for a product, expected .*; set CXX to another"):
        build.build()
    assert build.built() is None
    assert not build.available()


def test_the_test_of_a_library_sees_a_wrong_result(compiled):
    library = Library(compiled.path)
    assert library.fault() is None
    library.multiply = lambda *_: None
    assert "got 0.0 for a product" in library.fault()


@pytest.mark.parametrize("damage", ["flip", "shorten", "empty", "remove"])
@pytest.mark.parametrize("suffix", [".so", ".json"])
def test_a_damaged_build_is_not_loaded_but_made_anew(copying, suffix, damage):
    path = build.build().path.with_suffix(suffix)
    held = path.read_bytes()
    path.unlink()  # a library that is mapped must not change under its users
    if damage != "remove":
        middle = len(held) // 2
        flipped = held[:middle] + bytes([held[middle] ^ 1]) + held[middle + 1 :]
        path.write_bytes({"flip": flipped, "shorten": held[:middle], "empty": b""}[damage])
    forget()
    if damage != "flip" or suffix == ".so":  # another compiler's name in the json harms nobody
        assert build.built() is None
        assert not build.available()
    assert build.build() == build.built()
    assert build.available()


@pytest.mark.parametrize("about", ["[]", "3", "{}", '{"sha256": 1}', '{"sha256": "x", "features": [[]]}'])
def test_a_description_of_another_form_is_made_anew(copying, about):
    path = build.build().path
    path.with_suffix(".json").write_text(about)
    assert build.built() is None
    assert build.build() == build.built()


def test_other_sources_are_another_build(copying, monkeypatch, tmp_path):
    first = build.build()
    for name in (*build.SOURCES, *build.HEADERS):
        (tmp_path / name).write_text((build.FOLDER / name).read_text())
    (tmp_path / "simd.h").write_text((build.FOLDER / "simd.h").read_text() + "\n")
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    assert build.built() is None
    assert build.build().path != first.path
    assert count(copying) == 2


def test_another_processor_is_another_build(copying, monkeypatch):
    first = build.build()
    poorer = build.features() - {sorted(build.features())[-1]}
    monkeypatch.setattr(build, "features", lambda: poorer)
    assert build.built() is None
    assert build.build().path != first.path


def test_a_build_for_a_better_processor_is_not_loaded(copying):
    path = build.build().path.with_suffix(".json")
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"features": [*about["features"], "avx4096"]}))
    forget()
    assert build.built() is None
    with pytest.raises(KernelUnavailable, match="not built on this machine yet"):
        build.loaded()
    assert build.build().features == build.features()


def test_a_cache_that_cannot_be_written_is_told(copying, cache):
    cache.parent.write_text("a file where a folder should be")
    with pytest.raises(KernelUnavailable, match="could not be kept"):
        build.build()


def test_two_processes_at_once_compile_once(compiler, compiled):
    calls = compiler(f'sleep 0.5; cp "{compiled.path}" "$out"')
    command = [sys.executable, "-m", "thermoscope.models.kernels.build"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [each.communicate()[0] for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert said[0] == said[1] == f"{build.build().path}\n"
    assert Path(said[0].strip()).exists()
    assert count(calls) == 1


@pytest.mark.parametrize("named", ["'", "nowhere-to-be-found", "/tmp"])
def test_a_compiler_that_is_no_program_is_none(named, cache, monkeypatch):
    monkeypatch.setenv("CXX", named)
    assert build.compiler() == []
    with pytest.raises(KernelUnavailable, match=r"got no C\+\+ compiler, expected .*, or CXX"):
        build.build()
