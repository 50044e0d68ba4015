"""Classes of programs that run a model: those in one lose time in the same places."""

import re

from thermoscope.errors import InvalidRequest

Framework = str
MEANINGS: dict[Framework, str] = {
    "eager": "PyTorch without a graph: every operation is launched from Python (transformers, AutoAWQ)",
    "compiled": "PyTorch with torch.compile and a static cache (gpt-fast, torchao)",
    "serving": "a server with CUDA graphs and fused kernels (vLLM, SGLang, TensorRT-LLM, LMDeploy)",
    "fastertransformer": "fused kernels from C++ without graphs (FasterTransformer)",
    "llama.cpp": "llama.cpp and what is built on it (Ollama, LM Studio)",
    "edge": "kernels made for one sequence (MLC, ExLlama, TinyChat)",
    "kernels": "single kernels of PyTorch, measured alone",
    "fused kernels": "single kernels of a server, measured alone",
    "thermoscope": "this program, on the machine that `--calibrate` measured",
}
FRAMEWORKS = tuple(MEANINGS)
# The first that is found decides: "vLLM eager kernels" are kernels.
EAGER = ("eager", "kernels")  # between products they run PyTorch's own kernels, one for each operation
_NAMES: tuple[tuple[str, Framework], ...] = (
    (r"vllm.*kernels", "fused kernels"),
    (r"kernel(s)?\b(?!.*awq)|profiler|matmul|cutlass|gemm\b(?!.*\d{4})", "kernels"),
    (r"new kernel|llm-awq|tinychat", "edge"),
    (r"autoawq|awq (gemm|new|kernel)", "eager"),
    (r"mlc|exllama|mlx", "edge"),
    (r"llama\.?cpp|ollama|lm studio|llamafile|gguf|kobold", "llama.cpp"),
    (r"fastertransformer|\bft\b|deepspeed|flexgen", "fastertransformer"),
    (r"gpt-fast|torchao|compile", "compiled"),
    (r"vllm|sglang|tensorrt|trt|lmdeploy|turbomind|tgi|text-generation-inference|dynamo", "serving"),
    (r"\bhf\b|hugging|transformers|accelerate|torchscript|litgpt|pytorch|torch|eager|bitsandbytes", "eager"),
)


def framework_of(name: str) -> Framework | None:
    """The class that a program's name belongs to; None where it is not known."""
    words = name.lower()
    return next((found for pattern, found in _NAMES if re.search(pattern, words)), None)


def framework(name: str) -> Framework:
    """The class of that name.

    **Errors:** `InvalidRequest`.
    """
    if name in MEANINGS:
        return name
    raise InvalidRequest(
        f"framework: got {name!r}, expected one of {', '.join(FRAMEWORKS)}.", param="framework"
    )
