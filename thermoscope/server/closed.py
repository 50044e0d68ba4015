"""JSON Schemas without the properties that they do not name: what a model would only invent."""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
# Beside these in one schema, properties that it does not name itself may have to be there.
OPEN = frozenset((
    *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "minProperties", "patternProperties"),
    *("unevaluatedProperties", "dependentSchemas"),
))  # fmt: skip


def closed(schema: Schema) -> Schema:
    """The schema without properties that it does not name, where it names some and says nothing of others.

    A small model would go on inventing some. What is valid so is valid for the schema itself. A part that has
    to hold beside another part stays as it is, for the other's properties are unknown to it.
    """
    joined = any("allOf" in part or {"$ref", "properties"} <= part.keys() for part in _parts(schema))
    by_name = {"properties"} if joined else {"properties", "$defs", "definitions"}

    def close(part: Any, *, alone: bool = True) -> Any:
        if not isinstance(part, Mapping):
            return part
        made = dict(part)
        for keyword, value in part.items():
            if keyword in by_name and isinstance(value, Mapping):
                made[keyword] = {name: close(each) for name, each in value.items()}
            elif keyword == "items":
                made[keyword] = close(value)
            elif keyword == "prefixItems" and isinstance(value, list):
                made[keyword] = [close(each) for each in value]
            elif keyword in ("anyOf", "oneOf") and isinstance(value, list):
                only = alone and not part.get("properties") and not part.keys() & OPEN - {keyword}
                made[keyword] = [close(each, alone=only) for each in value]
        named = made.get("properties")
        if alone and isinstance(named, Mapping) and not made.keys() & OPEN and _within(made, named):
            made.setdefault("additionalProperties", False)
        return made

    result: Schema = close(schema)
    return result


def _within(schema: Schema, named: Schema) -> bool:
    required = schema.get("required", ())
    return isinstance(required, list | tuple) and set(map(str, required)) <= set(named)


def _parts(schema: object) -> Iterator[Schema]:
    """Every mapping within a schema, itself first."""
    if isinstance(schema, Mapping):
        yield schema
        for value in schema.values():
            yield from _parts(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _parts(value)
