"""`thermoscope models`: what is at hand, what can be fetched, what a model is."""

from collections import Counter
from contextlib import suppress
from json import loads
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from thermoscope.cli import options
from thermoscope.cli.terminal import cells, console, print_json, size, visible

app = typer.Typer(help="List, fetch and look at models.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A name, a folder, a .gguf file or a hub id.")]


@app.command("list")
def list_models(json: options.Json = False) -> None:
    """List the models that have a name here, and what of them is on this disk."""
    from thermoscope.models.store import cached_models

    models: list[dict[str, Any]] = [
        {
            "name": model.name,
            "cached": model.path is not None,
            "bytes": model.path.stat().st_size if model.path else model.wheel.file_bytes,
            "path": str(model.path) if model.path else None,
            "licence": model.licence,
            "source": model.source,
        }
        for model in cached_models()
    ]
    packed = packed_models()
    if json:
        print_json({"models": models, "packed": packed})
        return
    table = Table("name", "size", "licence", "path", box=None, padding=(0, 2, 0, 0))
    for each in models:
        here = each["path"] if each["cached"] else f"not here; thermoscope models pull {each['name']}"
        table.add_row(*cells(each["name"], size(each["bytes"]), each["licence"], here))
    for each in packed:
        packed_name = f"{each['name']}, packed as {each['precision']}"
        table.add_row(*cells(packed_name, size(each["bytes"]), "", each["path"]))
    console().print(table)


def packed_models() -> list[dict[str, Any]]:
    """The copies that make a second start fast; deleting one costs only the time to pack it again."""
    from thermoscope.models.store import cache_dir

    found = []
    for about in sorted((cache_dir() / "packed").glob("*/model.json")):
        with suppress(OSError, ValueError, KeyError):  # half a copy is nobody's model; loading mends it
            plain = loads(about.read_text(encoding="utf-8"))
            total = sum(file.stat().st_size for file in about.parent.iterdir())
            found.append(
                {
                    "name": plain["name"],
                    "precision": plain["precision"],
                    "bytes": total,
                    "path": str(about.parent),
                }
            )
    return found


@app.command()
def pull(name: Name = options.DEFAULT_MODEL, json: options.Json = False) -> None:
    """Fetch a model, so that later starts need no network."""
    from thermoscope.models.store import locate

    path = locate(name, progress=not json)
    if json:
        print_json({"name": name, "path": str(path)})
    else:
        print(visible(str(path)))


@app.command()
def show(name: Name = options.DEFAULT_MODEL, json: options.Json = False) -> None:
    """Show what a model is: its shape, its files, and what it takes at each precision."""
    from thermoscope.models.store import locate

    plain = describe(locate(name, progress=not json))
    if json:
        print_json(plain)
        return
    table = Table("", box=None, padding=(0, 2, 0, 0))
    table.add_column(*cells(plain["name"]))
    rows = [
        *((key, str(plain[key])) for key in ("path", "architecture", "licence")),
        ("parameters", f"{plain['parameters']:,}"),
        ("shape", ", ".join(f"{key} {value:,}" for key, value in plain["shape"].items())),
        ("context", f"{plain['context']:,} tokens"),
        ("tokenizer", ", ".join(f"{key} {value}" for key, value in plain["tokenizer"].items())),
        ("tensors", ", ".join(f"{count} {kind}" for kind, count in plain["tensors"].items())),
        ("files", size(plain["file_bytes"])),
        *((f"weights, {precision}", size(count)) for precision, count in plain["weight_bytes"].items()),
        ("cache, a token", size(plain["cache_bytes_per_token"])),
    ]
    for row in rows:
        table.add_row(*cells(*row))
    console().print(table)


def describe(path: Path) -> dict[str, Any]:
    """Everything that `show` shows, as plain JSON values; sizes in bytes."""
    from thermoscope.catalogue.precision import PRECISIONS
    from thermoscope.models.checkpoint import open_checkpoint
    from thermoscope.planning import serving

    checkpoint = open_checkpoint(path)
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    kinds, licence = _gguf(path) if path.is_file() else _folder(path)
    files = [path] if path.is_file() else [each for each in path.iterdir() if each.is_file()]
    return {
        "name": checkpoint.name,
        "path": str(path),
        "architecture": config.family,
        "licence": licence or "not stated",
        "parameters": config.parameters,
        "shape": {
            key: getattr(config, key)
            for key in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab")
        },
        "context": config.context,
        "tokenizer": {
            "vocabulary": tokenizer.vocab_size,
            "chat template": "yes" if tokenizer.template else "no",
            "ends": " ".join(tokenizer.piece(token) for token in sorted(tokenizer.end_ids)),
        },
        "tensors": dict(kinds.most_common()),
        "file_bytes": sum(each.stat().st_size for each in files),
        "weight_bytes": {precision: serving.weight_bytes(config, precision) for precision in PRECISIONS},
        "cache_bytes_per_token": serving.cache_bytes(config, slots=1, context=1),
    }


def _gguf(path: Path) -> tuple[Counter[str], str | None]:
    from thermoscope.catalogue.gguf_header import read_header

    header = read_header(path)
    return Counter(info.kind.name for info in header.tensors.values()), header.metadata.get("general.license")


def _folder(path: Path) -> tuple[Counter[str], str | None]:
    from safetensors import safe_open

    kinds: Counter[str] = Counter()
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as tensors:
            kinds.update(tensors.get_slice(name).get_dtype() for name in tensors.keys())  # noqa: SIM118
    card = path / "README.md"  # the hub's model card: its front matter names the licence
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines() if card.is_file() else []
    return kinds, next((line[8:].strip() for line in lines if line.startswith("license:")), None)
