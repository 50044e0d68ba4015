"""A function's parameters as the JSON Schema that the arguments of a call are held to."""

from thermoscope.engine.grammar import Grammar
from thermoscope.errors import InvalidRequest
from thermoscope.server.closed import Schema, closed
from thermoscope.server.tools.schema import Function


def arguments_schema(function: Function, path: str) -> Schema:
    """What a call's arguments are: one object, valid for the schema as it was sent.

    `path`: the field of the request that the function stands in.

    **Errors:** `InvalidRequest` for what is not supported, and for a schema of anything but an object.
    """
    schema = {"type": "object", "properties": {}} | (function.parameters or {})
    if schema["type"] != "object":
        raise InvalidRequest(
            f"{path}.parameters.type: got {schema['type']!r}, expected 'object', which arguments are.",
            param=f"{path}.parameters.type",
        )
    Grammar.json_schema(schema, param=f"{path}.parameters")  # refuses what is not supported
    return closed(schema)
