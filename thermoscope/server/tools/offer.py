"""What a request lets the model call: the functions, and whether it may, must or must not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thermoscope.errors import InvalidRequest
from thermoscope.server.tools.schema import (
    AllowedToolChoice,
    Choice,
    Function,
    FunctionChoice,
    FunctionName,
    NamedTool,
    Tool,
)


@dataclass(frozen=True)
class Offer:
    """Functions that an answer may call.

    - `functions`: all that the model is told of. `callable`: those that it may call now.
    - `must`: whether it has to. `several`: whether one answer may hold more calls than one.
    - `paths`: the field of the request that each function stands in.
    """

    functions: tuple[Function, ...]
    callable: tuple[Function, ...]
    must: bool
    several: bool
    paths: Mapping[str, str]

    @property
    def told(self) -> list[dict[str, Any]]:
        """The functions as chat templates read them."""
        return [
            {
                "type": "function",
                "function": {
                    "name": function.name,
                    **({} if function.description is None else {"description": function.description}),
                    "parameters": function.parameters or {"type": "object", "properties": {}},
                },
            }
            for function in self.functions
        ]


def tools_offer(
    tools: Sequence[Tool] | None, choice: Choice | None, *, parallel: bool | None = None
) -> Offer | None:
    """What `tools`, `tool_choice` and `parallel_tool_calls` offer; None where nothing may be called.

    **Errors:** `InvalidRequest` for two functions of one name, and for a choice of what is not there.
    """
    functions = [tool.function for tool in tools or ()]
    paths = _paths(functions, "tools[{}].function")
    if not functions:
        if choice not in (None, "none", "auto"):
            raise InvalidRequest(
                "tool_choice: got one that asks for a call without any tools; name them in tools.",
                param="tool_choice",
            )
        return None
    match choice:
        case "none":
            return None
        case NamedTool():
            names, must, several = [choice.function.name], True, False
        case AllowedToolChoice():
            names = [tool.function.name for tool in choice.allowed_tools.tools]
            must, several = choice.allowed_tools.mode == "required", parallel is not False
        case _:
            names, must, several = list(paths), choice == "required", parallel is not False
    return Offer(
        tuple(functions), _named(names, functions, "tool_choice"), must=must, several=several, paths=paths
    )


def functions_offer(functions: Sequence[Function] | None, choice: FunctionChoice | None) -> Offer | None:
    """The same for `functions` and `function_call`, which came before tools and know of one call."""
    paths = _paths(functions or (), "functions[{}]")
    name = choice.name if isinstance(choice, FunctionName) else None
    if not functions:
        if name is not None:
            raise InvalidRequest(
                "function_call: got one that asks for a call without any functions; name them in functions.",
                param="function_call",
            )
        return None
    if choice == "none":
        return None
    names = list(paths) if name is None else [name]
    callable_ = _named(names, functions, "function_call")
    return Offer(tuple(functions), callable_, must=name is not None, several=False, paths=paths)


def _paths(functions: Sequence[Function], path: str) -> dict[str, str]:
    paths: dict[str, str] = {}
    for at, function in enumerate(functions):
        if function.name in paths:
            raise InvalidRequest(
                f"{path.format(at)}.name: got {function.name!r} again, expected a name that no other "
                "function has; leave one of them out.",
                param=f"{path.format(at)}.name",
            )
        paths[function.name] = path.format(at)
    return paths


def _named(names: Sequence[str], functions: Sequence[Function], param: str) -> tuple[Function, ...]:
    known = {function.name: function for function in functions}
    for name in names:
        if name not in known:
            raise InvalidRequest(
                f"{param}: got {name!r}, expected one of {', '.join(known)}; offer that function, or choose "
                "another.",
                param=param,
            )
    return tuple(function for name, function in known.items() if name in names)
