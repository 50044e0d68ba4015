"""A command for each instrument, made from its settings."""

import inspect
import json as json_
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, cast, get_args, get_origin

import typer
import typer.main
from pydantic.fields import FieldInfo

from thermoscope import instruments
from thermoscope.catalogue.architecture import Architecture
from thermoscope.cli import options
from thermoscope.cli.answer import check_writable
from thermoscope.cli.reading import show, take
from thermoscope.cli.terminal import note, print_json
from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape import page
from thermoscope.instruments.shape.source import File

FAILED = 1


def command(name: str) -> Any:
    """The command that takes a reading with the instrument of that name."""
    instrument = instruments.instrument(name)
    fields = instrument.settings.model_fields

    def run(
        json: bool, figure: Path | None, save: Path | None, loading: dict[str, Any], given: dict[str, Any]
    ) -> None:
        if figure is not None:
            page.check(figure)
        plain = {key: _given(key, field, given[key]) for key, field in fields.items()}
        settings = instrument.settings.parse({key: each for key, each in plain.items() if each is not None})
        if save is not None:
            check_vector(save, settings)
        quiet = json or not sys.stderr.isatty()
        reading = take(instrument, settings, loading.pop("model", ""), loading, quiet=quiet)
        paths = [] if figure is None else page.save(reading, figure)
        if json:
            print_json(reading.to_dict())
        else:
            show(reading)
        for path in paths:
            note(f"figure: {path}")
        if save is not None and reading.steering is not None:
            reading.steering.save(save)
            note(f"steering vector: {save}")
        if not reading.passed:
            raise typer.Exit(FAILED)

    loading: dict[str, Any] = {}
    if instrument.loads_model:
        loading |= {"model": options.Model, "precision": options.Precision}
        loading |= {"context": options.Context, "threads": options.Threads}
    output = {"json": options.Json, "figure": options.Figure}
    if instrument.steers:
        output["save"] = options.Save
    defaults = {"json": False} | ({"model": options.DEFAULT_MODEL} if loading else {})

    def entry(**values: Any) -> None:
        run(
            values["json"], values["figure"], values.get("save"), {key: values[key] for key in loading},
            {key: values[key] for key in fields},
        )  # fmt: skip

    declared = {key: _option(key, field) for key, field in fields.items()} | output | loading
    # Typer reads a function's signature, so this one is given the signature of the settings.
    entry.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(key), annotation=kind)
            for key, kind in declared.items()
        ]
    )
    entry.__annotations__ = declared
    app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["--help", "-h"]})
    app.command(name, help=f"{instrument.question}\n\n{instrument.summary}")(entry)
    return typer.main.get_command(app)


def check_vector(path: Path, settings: Any) -> None:
    """Refuse, before anything is measured, a file that the vector cannot be saved to."""
    from thermoscope.engine.steering import check

    if settings.task is None:
        raise InvalidRequest("--save: got no task, expected one: only a task's vector is of use elsewhere.")
    check(path, settings.mode)
    check_writable(path)


class _Kind(NamedTuple):
    """What one value of a field is on the command line, and whether there are many of them."""

    type: Any
    many: bool = False


def _kind(annotation: Any) -> _Kind:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (Union, UnionType):
        return _kind(next(each for each in inner if each is not NoneType))
    if origin is tuple:
        return _kind(inner[0])._replace(many=True)
    if origin is Literal:
        return _Kind(type(inner[0]))
    return _Kind({File: Path, Architecture: str}.get(annotation, annotation))


def _option(name: str, field: FieldInfo) -> Any:
    """A field as Typer declares it; None where it is not given, so that defaults stand in one place."""
    about, kind = cast("dict[str, Any]", field.json_schema_extra), _kind(field.annotation)
    taken = str if kind.many else kind.type
    unit = about["unit"]
    metavar = {str: unit.upper(), Path: "FILE"}.get(taken)
    text = f"{field.description} [{unit}]" if kind.type in (int, float) else field.description
    if about.get("argument"):
        return Annotated[taken | None, typer.Argument(metavar=f"[{name.upper()}]", help=text)]
    flag = name.replace("_", "-")
    flags = f"--{flag}/--no-{flag}" if taken is bool else f"--{flag}"
    return Annotated[
        taken | None,
        typer.Option(
            flags, help=text, metavar=None if taken is bool else metavar, show_default=_default(field)
        ),
    ]


def _default(field: FieldInfo) -> str | bool:
    """How a default is written on the command line."""
    match field.default:
        case bool(value):
            return "yes" if value else "no"
        case tuple(values):
            return ",".join(map(str, values))
        case None:
            return False
    return False if field.is_required() else str(field.default)


def _given(name: str, field: FieldInfo, value: Any) -> Any:
    """What the command line gave, as `Settings.parse` takes it."""
    about, kind = cast("dict[str, Any]", field.json_schema_extra), _kind(field.annotation)
    if about["unit"] == "model":  # from a command line a name may also be a file's, a folder's or the hub's
        return None if value is None else Path(value)
    if about.get("argument") and about["unit"] == "text" and (value == "-" or field.is_required()):
        return options.said(value)
    if kind.many and value is not None:
        return _many(f"--{name.replace('_', '-')}", value, kind.type)
    return options.text(f"--{name.replace('_', '-')}", value) if isinstance(value, str) else value


def _many(option: str, value: str, kind: Any) -> list[Any]:
    """`0.2,0.7`, or a JSON list where a value holds a comma."""
    try:
        if value.startswith("["):
            return list(json_.loads(value))
        return [kind(part) for part in options.text(option, value).split(",")]
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequest(
            f"{option}: got {value!r}, expected values with commas between, or a JSON list.",
            param=option,
        ) from None
