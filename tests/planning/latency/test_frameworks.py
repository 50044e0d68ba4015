"""Programs by their names, as people write them."""

import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.planning.latency.frameworks import FRAMEWORKS, framework, framework_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("vLLM 0.19 eager kernels", "fused kernels"), ("vLLM", "serving"), ("SGLang 0.4", "serving"),
        ("AutoAWQ GEMM Oct-2023", "eager"), ("HF fp16", "eager"), ("gpt-fast torch.compile", "compiled"),
        ("llama.cpp llama-bench", "llama.cpp"), ("ollama 0.3", "llama.cpp"), ("MLC", "edge"),
        ("torch fp16 matmul (cuBLAS)", "kernels"), ("FasterTransformer", "fastertransformer"),
        ("abacus", None),
    ],
)  # fmt: skip
def test_a_program_belongs_to_its_class(name, kind):
    assert framework_of(name) == kind
    assert kind is None or kind in FRAMEWORKS


def test_an_unknown_class_is_refused():
    with pytest.raises(InvalidRequest, match="framework: got 'abacus', expected one of eager"):
        framework("abacus")
