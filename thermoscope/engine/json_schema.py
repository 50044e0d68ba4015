"""Which JSON Schemas an answer can be held to: the keywords that are supported, and where others stand."""

from collections.abc import Iterator, Mapping
from typing import Any

from thermoscope.errors import InvalidRequest

# As models write JSON: on one line, with a space behind a comma and a colon or without; no more.
LAYOUT: Any = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
DEEPEST = 64  # levels of objects and lists
# Of JSON Schema, and not of llguidance. What neither knows is an annotation, as the standard says.
UNSUPPORTED = frozenset((
    *("not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems", "propertyNames"),
    *("unevaluatedProperties", "unevaluatedItems", "dependentRequired", "dependentSchemas", "dependencies"),
    *("$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "x-guidance"),
))  # fmt: skip
FORMATS = frozenset((
    *("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"),
    "unknown",
))  # fmt: skip
ONE = frozenset(("additionalProperties", "additionalItems"))  # keywords that hold a schema,
LISTED = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))  # a list of them,
NAMED = frozenset(("properties", "patternProperties", "$defs", "definitions"))  # or some by their names


def check(schema: Mapping[str, Any] | bool) -> None:
    """Refuse what no answer can be held to, with the keyword and its place.

    What is wrong with a keyword that is supported, `llguidance` finds.

    **Errors:** `InvalidRequest`.
    """
    if not isinstance(schema, Mapping | bool):
        raise InvalidRequest(f"schema: got {_kind(schema)}, expected an object or a boolean.")
    if schema is False:
        raise InvalidRequest("schema: got false, which nothing satisfies, expected an object or true.")
    _check_depth(schema)
    for place, part in _parts("schema", schema):
        if bad := sorted(part.keys() & UNSUPPORTED):
            raise InvalidRequest(
                f"{place}.{bad[0]}: this keyword is not supported, for no grammar can hold an answer to it; "
                "leave it out."
            )
        known = part.get("format", "unknown")
        if not isinstance(known, str) or known not in FORMATS:
            raise InvalidRequest(
                f"{place}.format: got {known!r}, expected one of {', '.join(sorted(FORMATS - {'unknown'}))}; "
                "leave it out, or say it with a pattern."
            )
        for keyword in ("exclusiveMinimum", "exclusiveMaximum"):
            if isinstance(part.get(keyword), bool):
                raise InvalidRequest(
                    f"{place}.{keyword}: got a boolean, as drafts before 6 have it, expected a number."
                )


def _parts(place: str, schema: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema within a schema, itself first, and where it stands."""
    if not isinstance(schema, Mapping):
        return
    yield place, schema
    for keyword, value in schema.items():
        if keyword in ONE or (keyword == "items" and isinstance(value, Mapping)):
            yield from _parts(f"{place}.{keyword}", value)
        elif isinstance(value, list) and keyword in LISTED | {"items"}:
            for index, each in enumerate(value):
                yield from _parts(f"{place}.{keyword}[{index}]", each)
        elif isinstance(value, Mapping) and keyword in NAMED:
            for name, each in value.items():
                yield from _parts(f"{place}.{keyword}.{name}", each)


def _check_depth(schema: object) -> None:
    level, below = 0, [schema]
    while below:
        level += 1
        if level > DEEPEST:
            raise InvalidRequest(
                f"schema: got more than {DEEPEST} levels, expected at most that; make it flatter."
            )
        below = [
            inner
            for each in below
            if isinstance(each, Mapping | list)
            for inner in (each.values() if isinstance(each, Mapping) else each)
        ]


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
