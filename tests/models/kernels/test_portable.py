"""One source for every machine: builds of driver.cpp print the same bits, and sanitizers find nothing."""

import functools
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from thermoscope.models.kernels import build

X86 = platform.machine() in ("x86_64", "AMD64")
DRIVER = Path(__file__).with_name("driver.cpp")
FLAGS = tuple(flag for flag in build.FLAGS if flag not in ("-fPIC", "-shared"))
ARM = "aarch64-linux-gnu-g++"
QEMU = next((name for name in ("qemu-aarch64-static", "qemu-aarch64") if shutil.which(name)), "qemu-aarch64")
ON_X86 = {
    "AVX-512 without VNNI": ("-march=native", "-mno-avx512vnni"),
    "AVX2": ("-march=native", "-mno-avx512f"),
    "no AVX": ("-march=x86-64", "-O1"),  # at -O3 it compiles for half a minute
}
ON_ARM = {"NEON": "armv8-a", "dot product": "armv8.2-a+dotprod"}


@pytest.fixture(scope="session")
def make(tmp_path_factory):
    """Compiles the driver, once for each name; gives the program, and what the compiler said."""
    folder = tmp_path_factory.mktemp("driver")
    sources = [*(build.FOLDER / name for name in build.SOURCES if name != "api.cpp"), DRIVER]

    def run(command):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def compile_all(name, *flags, compiler=None):
        command = [*([compiler] if compiler else build.compiler()), *FLAGS, *flags, f"-I{build.FOLDER}"]
        objects = [folder / f"{name}-{source.stem}.o" for source in sources]
        with ThreadPoolExecutor(2) as pool:
            parts = zip(sources, objects, strict=True)
            said = "".join(pool.map(run, [[*command, "-c", source, "-o", made] for source, made in parts]))
        run([*command, *objects, "-o", folder / name])
        return folder / name, said

    return functools.cache(compile_all)


def checksums(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture(scope="session")
def native(compiled, make):
    """What the build for this machine prints."""
    return checksums(make("native", build._native())[0])


def test_the_build_for_this_machine_agrees_with_itself(native):
    """The driver checks threads, chunks and rows on its own, and exp against the C library's."""
    assert len(native) == 22


@pytest.mark.skipif(not X86, reason="for x86-64")
@pytest.mark.parametrize("name", ON_X86)
def test_other_instructions_give_the_same_bits(native, make, name):
    assert checksums(make(name, *ON_X86[name])[0]) == native


@pytest.mark.peer
@pytest.mark.parametrize("name", ON_ARM)
def test_arm_gives_the_same_bits(native, make, name):
    if not (shutil.which(ARM) and shutil.which(QEMU)):
        pytest.skip(f"needs {ARM} and {QEMU} (Debian: g++-aarch64-linux-gnu, qemu-user-static)")
    path, _ = make(name, f"-march={ON_ARM[name]}", "-static", compiler=ARM)
    assert checksums(QEMU, "-cpu", "max", path) == native


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["native", "AVX2"])
def test_address_and_undefined_behaviour_sanitizers_find_nothing(native, make, machine):
    if machine == "AVX2" and not X86:
        pytest.skip("for x86-64")
    flags = ON_X86["AVX2"] if machine == "AVX2" else (build._native(),)
    sanitize = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover")
    assert checksums(make(f"sanitized-{machine}", *flags, *sanitize)[0]) == native


@pytest.mark.slow
def test_the_thread_sanitizer_finds_no_race(native, make):
    assert checksums(make("raced", build._native(), "-O1", "-fsanitize=thread")[0]) == native


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_compilers_have_nothing_to_say_and_agree(native, make, compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    path, said = make(compiler, build._native(), "-Wall", "-Wextra", compiler=compiler)
    # GCC's own header starts some vectors from themselves, and warns of it.
    warnings = [line for line in said.splitlines() if "warning:" in line]
    assert [line for line in warnings if "/avx512" not in line or "uninitialized" not in line] == []
    assert checksums(path) == native
