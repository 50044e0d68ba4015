"""`thermoscope hardware`: the devices that planners know, and what is known of one."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from thermoscope.cli import options
from thermoscope.cli.terminal import cells, console, print_json, size

if TYPE_CHECKING:
    from thermoscope.catalogue.hardware import Hardware

Name = Annotated[str | None, typer.Argument(help="A device, such as T4 or A100-80GB.", show_default="all")]


def hardware(name: Name = None, json: options.Json = False) -> None:
    """List the devices that planners know, or show one: memory, bandwidth, matrix rates, their sources."""
    from thermoscope.catalogue import hardware as catalogue

    if name is not None:
        _show(catalogue.hardware(name), json)
        return
    devices = [catalogue.hardware(each) for each in catalogue.names()]
    if json:
        print_json({"hardware": [plain(each) for each in devices]})
        return
    table = Table("name", "memory", "usable", "bandwidth", "fp32", "fp16", "measured fp16", **_look())
    for each in devices:
        row = (_size(each.memory_bytes), _size(each.usable_bytes), _speed(each.bandwidth))
        rates = (each.rates.get("fp32"), each.rates.get("fp16"), each.measured_rates.get("fp16"))
        table.add_row(*cells(each.name, *row, *map(_rate, rates)))
    console().print(table)


def plain(device: "Hardware") -> dict[str, Any]:
    """A device as plain JSON values: bytes, bytes a second, FLOP/s."""
    fields = asdict(device)
    return fields | {key: dict(fields[key]) for key in ("rates", "measured_rates")}


def _show(device: "Hardware", json: bool) -> None:
    if json:
        print_json(plain(device))
        return
    table = Table("", **_look())
    table.add_column(*cells(device.name))
    rows = [
        ("maker, generation", f"{device.vendor}, {device.generation}"),
        ("memory", _size(device.memory_bytes)),
        ("memory, usable", _size(device.usable_bytes)),
        ("bandwidth", _speed(device.bandwidth)),
        *((f"{precision}, dense", _rate(rate)) for precision, rate in device.rates.items()),
        *((f"{precision}, measured", _rate(rate)) for precision, rate in device.measured_rates.items()),
        ("bf16", "yes" if device.bf16 else "no"),
        (
            "link between devices",
            f"{device.link}, {_speed(device.link_bandwidth)}" if device.link else "none",
        ),
        ("to the host", _speed(device.pcie_bandwidth)),
        ("power", f"{device.power_watts:g} W" if device.power_watts else "unknown"),
        *(("notes", note) for note in [device.notes] if note),
        ("source", device.source),
        ("checked", device.checked),
        *(("measured by", source) for source in [device.measured_source] if source),
    ]
    for row in rows:
        table.add_row(*cells(*row))
    console().print(table)


def _look() -> dict[str, Any]:
    return {"box": None, "padding": (0, 2, 0, 0)}


def _size(count: int | None) -> str:
    return "unknown" if count is None else size(count)


def _speed(rate: float | None) -> str:
    return "unknown" if rate is None else f"{rate / 1e9:g} GB/s"


def _rate(rate: float | None) -> str:
    return "unknown" if rate is None else f"{rate / 1e12:g} TFLOPS"
