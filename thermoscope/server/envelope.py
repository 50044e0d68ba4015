"""What every answer is sent in: its name and time, and how many tokens were read and drawn."""

import time
import uuid
from typing import TYPE_CHECKING, Any

from thermoscope import __version__

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel


def head(kind: str, prefix: str, name: str, model: "LanguageModel") -> dict[str, Any]:
    """The first fields of an answer.

    - `kind`: OpenAI's name of the object. `prefix`: of its id. `name`: that the request knows the model by.
    """
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": name,
        "system_fingerprint": f"{model.name}-{model.precision}-{__version__}",
    }


def usage(prompt_tokens: int, completion_tokens: int, *, cached_tokens: int = 0) -> dict[str, Any]:
    """The field `usage`. An end token is drawn, too.

    `cached_tokens`: of the prompt, those whose keys and values were at hand.
    """
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
