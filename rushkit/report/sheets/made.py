"""What was trained, clustered, imported, exported or timed, as sheets."""

from __future__ import annotations

from rushkit.exchange.exported import Exported
from rushkit.report.sheets.sheet import Code, Sheet, Titled, facts, sheet_of
from rushkit.report.table import Column, build_table, column
from rushkit.results.clustering import Clustering, Clusters
from rushkit.results.imported import Imported
from rushkit.results.notes import Note
from rushkit.results.training import Finetuning, Pretraining, PseudoLabels
from rushkit.results.words import accuracy_words, noise_words, plain_noise
from rushkit.rounding import counted, duration, percent
from rushkit.speed import figures as speed

_MATCHED = "clusters matched to classes as well as can be: for this look only, nothing is chosen by it"

_BARE = (
    "bare: the same passes of all networks on prepared inputs, without views, noise, loss and votes; beside views, "
    "those that its training steps take"
)


@sheet_of.register
def _(results: Pretraining) -> Sheet:
    """Return the figures of the last epoch, what it started and learnt from, and how its kNN accuracy is measured."""
    rows = {
        "epochs": results.epochs,
        "loss of the last epoch": _loss(results.loss),
        "kNN accuracy %": _percent(results.knn_accuracy),
        "started from": results.started.in_words() if results.started else "",
        "teacher": results.teacher.in_words() if results.teacher else "",
        "labels": _labels(results.labels),
    }
    lines = [_noted(note) for note in results.notes]
    if (knn := results.knn_protocol) is not None and results.knn_accuracy is not None:
        lines.append(
            f"kNN: {knn.k} neighbours vote with temperature {knn.temperature:g}; they come from {knn.bank}, and "
            f"{knn.queries} are classified; {knn.use}"
        )
    return facts(f"pre-trained {results.recipe}", rows), *lines


@sheet_of.register
def _(results: Finetuning) -> Sheet:
    """Return the figures of the last epoch, what it started from, and how validation images are attacked."""
    rows = {
        "epochs": results.epochs,
        "loss of the last epoch": _loss(results.loss),
        "validation accuracy %": _percent(results.validation_accuracy),
        "validation under attack %": _percent(results.validation_robust_accuracy),
        "encoder from": results.source or "random weights",
        "parameters that train": _parameters(results.trainable),
        "average of weights, decay": results.average_decay,
        "labels": _labels(results.labels),
    }
    lines = [results.accuracy.in_words()] if results.accuracy else []
    if (how := results.validation_protocol) is not None:
        lines.append(f"validation under attack: {how.images}, {how.attack}; {how.use}")
    if results.validation_accuracy is not None:
        lines.append("validation images are seen under one draw of the noise each: this is no figure to quote")
    return facts(f"fine-tuned {results.recipe}", rows), *lines, *map(_noted, results.notes)


@sheet_of.register
def _(results: Clustering) -> Sheet:
    """Return how large and how tight the clusters of each column are."""
    columns: list[Column[Clusters]] = [
        column("clusters", lambda row: row.clusters),
        column("smallest", lambda row: min(row.sizes)),
        column("median", lambda row: sorted(row.sizes)[len(row.sizes) // 2]),
        column("largest", lambda row: max(row.sizes)),
        column("inertia", lambda row: f"{row.inertia:.6g}"),
        column("iterations", lambda row: f"{row.iterations}{'' if row.settled else ', not settled'}"),
    ]
    matched = any(row.matched is not None for row in results.columns)
    if matched:
        columns.append(column("matches classes %", lambda row: _percent(row.matched)))
    lines = [f"by {results.features} features of {results.source}, of unit length"]
    lines += filter(None, [results.outside, _MATCHED if matched else ""])
    table = build_table(results.columns, columns)
    return Titled(table, f"{counted(results.images, 'image')} of {results.data} in clusters"), "\n".join(lines)


@sheet_of.register
def _(results: Imported) -> Sheet:
    """Return the model, where it is from, and how it does on clean images."""
    origin, backbone, clean = results.imported, results.backbone, results.clean
    height, width = _sides(results.image_size)
    rows = {
        "from": origin.file or f"pretrained {origin.pretrained} ({origin.tag})",
        "sha256": origin.sha256,
        "branch": origin.branch,
        "backbone": backbone.name,
        "normalisation": f"(x - {backbone.mean}) / {backbone.std}" if backbone.mean else "none: x in [0, 1]",
        "input": f"{results.channels}x{height}x{width}, pixels in [0, 1]",
        "parameters": f"{results.parameters:,}",
        "classes": results.classes,
        "noise": noise_words(plain_noise(results.noise)),
        "left out": ", ".join(origin.ignored),
    }
    if clean is not None:
        rows["clean accuracy %"] = (
            f"{accuracy_words(clean)} on {counted(clean.images, 'image')} of {clean.data}, without noise; "
            f"always saying the commonest class has {percent(clean.chance)}"
        )
    if origin.claim is not None:
        rows["the file's own claim %"] = f"{percent(origin.claim.accuracy)} ({origin.claim.key})"
    return (facts(f"imported {results.makes} {results.recipe}", rows),)


@sheet_of.register
def _(results: Exported) -> Sheet:
    """Return the file, what goes in and comes out, how far its outputs are from the run's, and how it is loaded."""
    (height, width), classes = _sides(results.image_size), results.classes
    outside = results.mean and results.format == "timm"
    rows = {
        "from": results.source,
        "to": f"{results.file}, {results.bytes / 2**20:.1f} MiB",
        "input": f"(N, {results.channels}, {height}, {width}) float32, "
        + (f"(x - {results.mean}) / {results.std} of pixels x in [0, 1]" if outside else "pixels in [0, 1]"),
        "output": f"logits of {len(classes)} classes, without noise" if classes else "features",
        "checked": f"outputs differ by {results.difference:.2g} at most; the largest is {results.largest:.3g}",
        "smoothing": f"yours to do, under noise {noise_words(results.noise.model_dump())}: docs/import-export.md"
        if classes and results.noise.name != "none"
        else "",
    }
    sheet: Sheet = (facts(f"exported {results.part}, {results.format}", rows),)
    return (*sheet, "to load it:", Code(tuple(results.load))) if results.load else sheet


@sheet_of.register
def _(measured: speed.Benchmark) -> Sheet:
    """Return the speed of each part of the work beside that of bare passes, and how long the recipe takes."""
    clock = "processor time" if measured.machine.startswith("cpu") else "time"
    columns: list[Column[speed.Row]] = [
        column("part", lambda row: row.part, left=True),
        column("precision", lambda row: row.precision, left=True),
        column("batch", lambda row: row.batch),
        column("speed", lambda row: f"{row.per_second:,.1f} {row.unit}"),
        column("bare, float32", lambda row: f"{row.bare_per_second:,.1f} {row.unit}"),
        # Making views is no pass of the model, so it is no share of one.
        column(f"share of it, by {clock}", lambda row: "" if row.part == "views" else f"{100 * row.fraction:.0f} %"),
    ]
    if any(row.alike is not None for row in measured.rows):
        columns.append(column("share of bare passes in its precision", _share_alike))
    memory = f"peak memory {measured.memory_bytes / 2**30:.2f} GiB at batch {measured.batch}"
    if measured.batch != measured.recipe_batch:
        memory += f"; the recipe's batch is {measured.recipe_batch}"
    if measured.estimate is None:
        end = "no estimate: the data is not here; `rushkit data list` says what is"
    else:
        whole, epoch = duration(measured.estimate.seconds), duration(measured.estimate.seconds_an_epoch)
        epochs = counted(measured.estimate.epochs, "epoch")
        end = f"{epochs} of {measured.recipe}: {whole} on this device, {epoch} an epoch"
    return Titled(build_table(measured.rows, columns)), _BARE, memory, end


def _share_alike(row: speed.Row) -> str:
    return "" if row.fraction_alike is None else f"{100 * row.fraction_alike:.0f} %"


def _percent(share: float | None) -> str:
    return "" if share is None else percent(share)


def _loss(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.4g}"


def _parameters(names: list[str]) -> str:
    return f"{len(names)} tensors" if len(names) > 2 else ", ".join(names)


def _labels(labels: PseudoLabels | None) -> str:
    if labels is None:
        return ""
    outside = f"; {labels.outside}" if labels.outside else ""
    return f"{', '.join(map(str, labels.clusters))} clusters of {labels.run}{outside}"


def _noted(note: Note) -> str:
    return f"note: {note.text}"


def _sides(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
