"""Thermoscope: an LLM engine with a glass case."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel as LanguageModel
    from thermoscope.engine.language_model import Reply as Reply
    from thermoscope.engine.language_model import load as load
    from thermoscope.engine.trace import Trace as Trace
    from thermoscope.errors import ThermoscopeError as ThermoscopeError
    from thermoscope.instruments import read as read

__version__ = "0.1.0"

# Read when first used: `import thermoscope` and the start of the command line stay free of torch.
_PUBLIC = {
    "LanguageModel": "thermoscope.engine.language_model",
    "Reply": "thermoscope.engine.language_model",
    "ThermoscopeError": "thermoscope.errors",
    "Trace": "thermoscope.engine.trace",
    "load": "thermoscope.engine.language_model",
    "read": "thermoscope.instruments",
}
__all__ = ["LanguageModel", "Reply", "ThermoscopeError", "Trace", "__version__", "load", "read"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'thermoscope' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
