"""The grammar of an answer that may call functions: text, or calls whose arguments their schemas hold valid.

Free text stays free until a call's opening mark; from there on the answer is a call, to the letter in the
model's own form, and nothing but further calls follows.
"""

import json
import re
from typing import TYPE_CHECKING

from thermoscope.engine.grammar import Grammar
from thermoscope.engine.json_schema import LAYOUT
from thermoscope.errors import InvalidRequest
from thermoscope.server.closed import Schema
from thermoscope.server.tools.offer import Offer
from thermoscope.server.tools.parameters import arguments_schema

if TYPE_CHECKING:
    from thermoscope.models.tokenizer import Tokenizer

_ANY = "/(?s:.*)/"


def answer_grammar(offer: Offer, tokenizer: "Tokenizer", said: Grammar | None = None) -> Grammar:
    """What an answer may be under this offer.

    `said`: the JSON Schema of an answer that calls nothing; None for any text.

    **Errors:** `InvalidRequest` for parameters that no grammar can be made of.
    """
    form, marks = tokenizer.call_format, tokenizer.call_marks

    def spelled(text: str) -> str:
        """Terminals of a text, the control tokens among them by their ids."""
        parts = re.split(f"({'|'.join(map(re.escape, marks))})", text) if marks else [text]
        return " ".join(f"<[{marks[part]}]>" if part in marks else _quoted(part) for part in parts if part)

    rules = [f"call: {' | '.join(f'call_{at}' for at in range(len(offer.callable)))}"]
    for at, function in enumerate(offer.callable):
        schema = _inline(arguments_schema(function, offer.paths[function.name]))
        rules.append(f"call_{at}: {spelled(function.name + form.middle)} %json {schema}")
    more = f"({spelled(form.tail + form.again)} call)*" if form.again and offer.several else ""
    rules.append(f"calls: {spelled(form.first)} call {more} {spelled(form.tail + form.closing)}")

    called = f"{spelled(form.opening)} calls"
    if offer.must:
        rules.append(f"start: {called}")
    elif said is not None:
        if form.leads:
            raise InvalidRequest(
                "response_format: got one beside tools, but this model writes its calls as bare JSON, so the "
                "two cannot be told apart; leave out one of them, or set tool_choice to required or none.",
                param="response_format",
            )
        rules += [f"said: %json {_inline(json.loads(said.source))}", f"start: said | {called}"]
    elif form.leads:
        rules += [f"start: SAID | {called}", f"SAID: {_ANY} & ~({_quoted(form.opening)} {_ANY})"]
    elif form.opening in marks:
        rules += [f"start: SAID | SAID {called}", f"SAID: {_ANY} & ~({_ANY} {_quoted(form.opening)} {_ANY})"]
    else:
        rules += ["start: SAID | until calls", f"SAID: {_ANY}"]
        rules += ["until[lazy]: UNTIL", f"UNTIL: {_ANY} {_quoted(form.opening)}"]
    return Grammar.lark("\n".join(rules), param="tools")


def _inline(schema: Schema) -> str:
    return json.dumps({**schema, "x-guidance": LAYOUT}, ensure_ascii=False)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
