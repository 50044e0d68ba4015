"""A model's chat template: the Jinja program that writes a conversation as one text.

It comes with the model, so it is foreign code: it runs in Jinja's immutable sandbox, with the settings and
the helpers that Hugging Face's templates expect and nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from thermoscope.errors import InvalidRequest


class ChatTemplate:
    """Messages in, prompt out.

    `bos` and `eos` are the texts that the template sees as `bos_token` and `eos_token`.
    """

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        self.source, self.bos, self.eos = source, bos, eos

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **extra: Any
    ) -> str:
        """Write the conversation out; with `add_generation_prompt`, up to where the answer begins.

        **Errors:** `InvalidRequest` on `messages` when the template refuses them or fails.
        """
        try:
            return self._compiled.render(
                messages=list(messages),
                add_generation_prompt=add_generation_prompt,
                bos_token=self.bos,
                eos_token=self.eos,
                **extra,
            )
        except Exception as error:  # a template may fail in any way that Python code can
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InvalidRequest(
                f"messages: the model's chat template refused them ({reason}); "
                "expected roles and contents that this model was trained with.",
                param="messages",
            ) from error

    @cached_property
    def _compiled(self) -> jinja2.Template:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        return environment.from_string(self.source)


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; a prompt simply contains them."""

    tags = {"generation"}  # noqa: RUF012  (Jinja declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes <, > and & for HTML, which models have never seen."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
