"""What an import or an export made, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rushkit.exchange.exported import Exported
from rushkit.report.tables import interval, noise_words
from rushkit.results.imported import Imported
from rushkit.rounding import percent


def import_table(results: Imported) -> RenderableType:
    """The model, where it is from, and how it does on clean images."""
    origin, backbone, clean = results.imported, results.backbone, results.clean
    size = results.image_size
    rows: dict[str, object] = {
        "from": origin.file or f"pretrained {origin.pretrained} ({origin.tag})",
        "sha256": origin.sha256,
        "backbone": backbone.name,
        "normalisation": f"(x - {backbone.mean}) / {backbone.std}" if backbone.mean else "none: x in [0, 1]",
        "input": f"3x{size}x{size}, pixels in [0, 1]",
        "parameters": f"{results.parameters:,}",
        "classes": results.classes,
        "noise": noise_words(results.noise.model_dump()),
        "left out": ", ".join(origin.ignored),
    }
    if clean is not None:
        rows["clean accuracy %"] = (
            f"{interval(clean.to_table())} on {clean.images} images of {clean.data}, without noise; "
            f"always saying the commonest class has {percent(clean.chance)}"
        )
    return _facts(f"imported {results.makes} {results.recipe}", rows)


def export_table(results: Exported) -> RenderableType:
    """The file, what goes in and comes out, how far its outputs are from the run's, and how it is loaded."""
    size, classes = results.image_size, results.classes
    outside = results.mean and results.format == "timm"
    rows = {
        "from": results.source,
        "to": f"{results.file}, {results.bytes / 2**20:.1f} MiB",
        "input": f"(N, 3, {size}, {size}) float32, "
        + (f"(x - {results.mean}) / {results.std} of pixels x in [0, 1]" if outside else "pixels in [0, 1]"),
        "output": f"logits of {len(classes)} classes, without noise" if classes else "features",
        "checked": f"outputs differ by {results.difference:.2g} at most; the largest is {results.largest:.3g}",
        "smoothing": f"yours to do, under noise {noise_words(results.noise.model_dump())}: docs/import-export.md"
        if classes and results.noise.name != "none"
        else "",
    }
    table = _facts(f"exported {results.part}, {results.format}", rows)
    return Group(table, Text("\n".join(["to load it:", *results.load]))) if results.load else table


def _facts(title: str, rows: Mapping[str, object]) -> Table:
    table = Table(title=title, show_header=False)
    for name, value in rows.items():
        if value not in (None, ""):
            table.add_row(name, str(value))
    return table
