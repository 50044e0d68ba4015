"""What every answer is sent in: its name and time, and how many tokens were read and drawn."""

import time
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from thermoscope import __version__

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.engine.trace import Trace


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


def joined(piece: dict[str, Any], tag: dict[str, Any]) -> dict[str, Any]:
    """A piece that says something beside, both of which may speak under the key `thermoscope`."""
    own = piece.get("thermoscope", {}) | tag.get("thermoscope", {})
    return piece | tag | ({"thermoscope": own} if own else {})


def usage(prompt_tokens: int, completion_tokens: int, traces: "Iterable[Trace]") -> dict[str, Any]:
    """The field `usage`. An end token is drawn, too.

    `traces`: of the answers. Cached are those tokens of a prompt whose keys and values were at hand when its
    first answer began; the other answers share that prompt.
    """
    cached = sum(trace.cached_tokens for trace in traces if trace.choice == 0)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
