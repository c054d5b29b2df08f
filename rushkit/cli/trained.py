"""The final output of the two training verbs."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from rushkit.results.dry_run import DryRun
from rushkit.results.training import Finetuning, Pretraining
from rushkit.rounding import figure

_WORDS = {
    "knn_accuracy": "nearest neighbours right",
    "validation_accuracy": "right on validation images",
    "validation_robust_accuracy": "right on them under attack",
    "average_decay": "weights averaged with decay",
}


def dry_run_table(verb: str, recipe: str, sizes: DryRun) -> Table:
    """Return a table with a row for each size of a training that was not run."""
    table = Table(title=f"{verb} {recipe}: dry run", show_header=False)
    for name, size in sizes.to_table().items():
        table.add_row(name, str(size))
    return table


def trained_words(results: Pretraining | Finetuning, folder: Path, next_command: str) -> Text:
    """Return the figures of a training, its folder, and the command that uses it."""
    figures = {key: value for key, value in results.to_table().items() if isinstance(value, float)}
    words = ", ".join(f"{_WORDS.get(key, key)} {figure(key, value)}" for key, value in figures.items())
    if isinstance(results, Finetuning) and results.accuracy is not None:
        words += f"\n{results.accuracy.in_words()}"
    if "knn_accuracy" in figures:
        words += " (clean images; labels are used for this look only)"
    words += "".join(f"\nnote: {note.text}" for note in results.notes)
    return Text(f"{words}\nrun: {folder}\nnext: {next_command}")
