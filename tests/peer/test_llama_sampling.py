"""The profile `llama.cpp` against llama.cpp's own samplers, called in its library on the same logits."""

import ctypes
import math
from dataclasses import replace

import numpy as np
import pytest

from thermoscope.bench import llama
from thermoscope.laws.filters import Filters
from thermoscope.laws.profiles import PROFILES

pytestmark = pytest.mark.peer


class Token(ctypes.Structure):
    """`llama_token_data`."""

    _fields_ = (("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float))


class Tokens(ctypes.Structure):
    """`llama_token_data_array`."""

    _fields_ = (
        ("data", ctypes.POINTER(Token)),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    )


ARGUMENTS = {
    "top_k": (ctypes.c_int32,),
    "top_p": (ctypes.c_float, ctypes.c_size_t),
    "min_p": (ctypes.c_float, ctypes.c_size_t),
    "typical": (ctypes.c_float, ctypes.c_size_t),
    "top_n_sigma": (ctypes.c_float,),
    "xtc": (ctypes.c_float, ctypes.c_float, ctypes.c_size_t, ctypes.c_uint32),
    "temp_ext": (ctypes.c_float, ctypes.c_float, ctypes.c_float),
    "mirostat_v2": (ctypes.c_uint32, ctypes.c_float, ctypes.c_float),
}


@pytest.fixture(scope="module")
def library():
    folder = llama.find()
    if folder is None:
        pytest.skip(f"llama.cpp: not found; name the folder of its programs in {llama.FOLDER}")
    for name in ("libggml-base.so", "libggml-cpu.so", "libggml.so"):
        ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(folder / "libllama.so"))
    for name, arguments in ARGUMENTS.items():
        init = getattr(library, f"llama_sampler_init_{name}")
        init.restype, init.argtypes = ctypes.c_void_p, arguments
    library.llama_sampler_apply.argtypes = (ctypes.c_void_p, ctypes.POINTER(Tokens))
    library.llama_sampler_free.argtypes = (ctypes.c_void_p,)
    return library


def run(library, logits, *samplers):
    """Ids and logits that are left after the samplers, one after the other; `(name, arguments)` each."""
    data = (Token * len(logits))(*((i, z, 0.0) for i, z in enumerate(logits)))
    tokens = Tokens(data, len(logits), -1, False)
    for name, *arguments in samplers:
        sampler = getattr(library, f"llama_sampler_init_{name}")(*arguments)
        library.llama_sampler_apply(sampler, tokens)
        library.llama_sampler_free(sampler)
    left = [tokens.data[at] for at in range(tokens.size)]
    return {each.id: each.logit for each in left if each.logit > -math.inf}


def chain(f):
    """The default chain, common/sampling.cpp; with Mirostat nothing but temperature runs beside it."""
    if f.mirostat_tau < math.inf:
        return [("temp_ext", f.temperature, 0.0, 1.0), ("mirostat_v2", 1, f.mirostat_tau, f.mirostat_eta)]
    return [
        ("top_n_sigma", f.top_n_sigma if f.top_n_sigma < math.inf else -1.0),
        ("top_k", f.top_k),
        ("typical", f.typical_p, 0),
        ("top_p", f.top_p, 0),
        ("min_p", f.min_p, 0),
        ("xtc", f.xtc_probability, f.xtc_threshold, 0, 1),
        ("temp_ext", f.temperature, f.dynatemp_range, f.dynatemp_exponent),
    ]


SETTINGS = [
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": 500},
    {"top_p": 0.0},
    {"top_p": 0.8, "temperature": 0.7},
    {"top_p": 0.95},
    {"min_p": 0.05, "temperature": 2.0},
    {"min_p": 1.0},
    {"typical_p": 0.3},
    {"typical_p": 0.9},
    {"top_n_sigma": 1.0},
    {"top_n_sigma": 2.5, "top_p": 0.9},
    {"top_n_sigma": 0.0},
    {"top_n_sigma": 0.0, "top_k": 40},
    {"top_n_sigma": 1.5, "dynatemp_range": 0.5},
    {"top_n_sigma": 1.5, "dynatemp_range": 0.5, "top_k": 30},
    {"top_n_sigma": 1.5, "dynatemp_range": 0.5, "top_p": 0.8},
    {"top_n_sigma": 1.5, "dynatemp_range": 0.5, "min_p": 0.2},
    {"top_n_sigma": 1.5, "dynatemp_range": 0.5, "xtc_probability": 1.0, "xtc_threshold": 0.1},
    {"xtc_probability": 1.0, "xtc_threshold": 0.1},
    {"xtc_probability": 1.0, "xtc_threshold": 0.03, "top_k": 50},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},  # its own defaults
    {"temperature": 0.0, "top_k": 40},
    {"temperature": 1.0, "dynatemp_range": 0.5, "dynatemp_exponent": 1.3},
    {"temperature": 0.4, "dynatemp_range": 1.0, "top_p": 0.9},
    {"mirostat_tau": 2.0},
    {"mirostat_tau": 4.0, "temperature": 1.3},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_profile_keeps_what_llama_cpp_keeps_and_gives_it_the_same_weight(library, settings):
    """A sum in float32 may end a set elsewhere: then a top_p that is a millionth off gives that set."""
    generator = np.random.default_rng(21)
    filters = Filters(**settings)
    mu = 2 * filters.mirostat_tau
    for _ in range(300):
        row = (generator.normal(size=400) * generator.uniform(0.5, 5)).astype(np.float32)
        theirs = run(library, row.tolist(), *chain(filters))
        *_, last = PROFILES["llama.cpp"].apply(row, filters, coin=0.0, mu=mu)
        if set(last.kept.tolist()) != set(theirs):
            near = [replace(filters, top_p=filters.top_p * (1 + 1e-6 * sign)) for sign in (-1, 1)]
            *_, last = min(
                (PROFILES["llama.cpp"].apply(row, each, coin=0.0, mu=mu) for each in near),
                key=lambda stages: len(set(stages[-1].kept.tolist()) ^ set(theirs)),
            )
        assert set(last.kept.tolist()) == set(theirs)
        theirs = np.array([theirs[token] for token in last.kept], dtype=np.float64)
        theirs -= theirs.max()
        theirs -= math.log(np.exp(theirs).sum())
        assert last.logprobs == pytest.approx(theirs, abs=1e-5, rel=1e-6)
