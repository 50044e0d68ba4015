"""The grammar of an answer that may call functions: text, or calls whose arguments their schemas hold valid.

Free text stays free until a call's opening mark; from there on the answer is a call, to the letter in the
model's own form, and nothing but further calls follows.
"""

import json
import re
from typing import TYPE_CHECKING, Any

from thermoscope.engine.grammar import Grammar
from thermoscope.errors import InvalidRequest
from thermoscope.server.tools.offer import Offer
from thermoscope.server.tools.schema import Function

if TYPE_CHECKING:
    from thermoscope.models.tokenizer import Tokenizer

# As models write JSON: on one line, with a space behind a comma and a colon or without.
LAYOUT = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}


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
        schema = _inline(_parameters(function, offer.paths[function.name]))
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


_ANY = "/(?s:.*)/"
# Beside these, properties may have to come from elsewhere.
_OPEN = {
    *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "minProperties", "patternProperties"),
    *("unevaluatedProperties", "dependentSchemas"),
}


def _parameters(function: Function, path: str) -> dict[str, Any]:
    """The schema of a function's arguments, which are one object.

    What names its properties and says nothing of others is taken to have no others: a small model would go on
    inventing some, and what is valid so is valid for the schema as it was sent.
    """
    schema = dict(function.parameters or {})
    Grammar.json_schema(schema, param=f"{path}.parameters")  # which names a keyword that is not supported
    if schema.setdefault("type", "object") != "object":
        raise InvalidRequest(
            f"{path}.parameters.type: got {schema['type']!r}, expected 'object', which arguments are.",
            param=f"{path}.parameters.type",
        )
    named, needed = schema.setdefault("properties", {}), schema.get("required", [])
    for keyword, sound, expected in (
        ("properties", isinstance(named, dict), "an object of schemas"),
        ("required", isinstance(needed, list) and all(isinstance(each, str) for each in needed), "names"),
    ):
        if not sound:
            raise InvalidRequest(
                f"{path}.parameters.{keyword}: got {schema[keyword]!r:.100}, expected {expected}.",
                param=f"{path}.parameters.{keyword}",
            )
    if not schema.keys() & _OPEN and set(needed) <= set(named):
        schema.setdefault("additionalProperties", False)
    return schema


def _inline(schema: dict[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": LAYOUT}, ensure_ascii=False)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
