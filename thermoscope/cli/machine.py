"""What the machine under us is: processor, memory, graphics card."""

import platform
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import psutil

from thermoscope.planning.serving import free_bytes

# Instruction sets that decide how fast a product of 4-bit, 8-bit and bfloat16 numbers can be, by the names
# that Linux gives them in /proc/cpuinfo.
INSTRUCTION_SETS = {
    "avx2": "avx2",
    "fma": "fma",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "avx512_bf16": "avx512_bf16",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimd": "neon",
    "asimddp": "dot",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
}
# The same by the names of macOS: sysctl keys on ARM; an Intel one lists them like Linux, dots and all.
APPLE_KEYS = {"AdvSIMD": "neon", "FEAT_DotProd": "dot", "FEAT_I8MM": "i8mm", "FEAT_BF16": "bf16"}


class Machine(NamedTuple):
    """What was found. Memory in bytes."""

    cpu: str
    cores: int | None
    instruction_sets: list[str]
    memory: int
    memory_free: int
    gpus: list[str]


def look() -> Machine:
    """Look at this machine; what cannot be known is empty, never an error."""
    cpu, instruction_sets = _processor()
    return Machine(
        cpu=cpu or platform.processor() or platform.machine() or "unknown",
        cores=psutil.cpu_count(logical=False) or psutil.cpu_count(),
        instruction_sets=instruction_sets,
        memory=psutil.virtual_memory().total,
        memory_free=free_bytes(),
        gpus=_lines("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"),
    )


def linux_processor(text: str) -> tuple[str, list[str]]:
    """Name and instruction sets from the text of /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = (fields.get("flags") or fields.get("features") or "").split()
    return fields.get("model name", ""), [name for flag, name in INSTRUCTION_SETS.items() if flag in flags]


def _processor() -> tuple[str, list[str]]:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        return linux_processor(cpuinfo.read_text(errors="replace"))
    name = " ".join(_lines("sysctl", "-n", "machdep.cpu.brand_string"))
    features = " ".join(_lines("sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"))
    found = [name for flag, name in INSTRUCTION_SETS.items() if flag in features.lower().split()]
    found += [
        name for key, name in APPLE_KEYS.items() if _lines("sysctl", "-n", f"hw.optional.arm.{key}") == ["1"]
    ]
    return name, found


def _lines(*command: str) -> list[str]:
    """What a program prints, line by line; nothing where there is no such program, or it fails."""
    if shutil.which(command[0]) is None:
        return []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
