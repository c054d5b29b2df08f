"""Sections of the page that hold nothing: one line each, that says what would fill them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rushkit.errors import shell_line
from rushkit.report.figures import Model

# Section -> the command that measures what it shows.
_COMMANDS = {
    "standard": ("evaluate",),
    "threats": ("evaluate", "--corruptions", "all", "--shift"),
    "attacks": ("attack",),
    "certified": ("certify",),
    "audit": ("audit",),
    "probe": ("probe",),
    "confusion": ("evaluate",),
}


@dataclass(frozen=True)
class Unfilled:
    """What is said in the place of a section that holds nothing.

    Attributes:
        words: Why it holds nothing.
        command: What would fill it; empty where nothing would.
    """

    words: str
    command: str = ""


def unfilled(models: Sequence[Model]) -> dict[str, Unfilled]:
    """Return section -> what would fill it, for the sections that could be filled; for several models of the first."""
    others = {
        "images": Unfilled("left out; rushkit report shows some of a classifier without --no-images"),
        "training": Unfilled("no training with curves is among the runs"),
    }
    first = next((model for model in models if model.classifies), None)
    if first is None:
        named = models[0].named_by
        tune = Unfilled("an encoder classifies nothing", shell_line("rushkit", "finetune", *named))
        probe = Unfilled("not measured", shell_line("rushkit", "probe", *named))
        return dict.fromkeys(_COMMANDS, tune) | others | {"probe": probe}
    words = "not measured" + (", and so with the other models" if len(models) > 1 else "")
    lines = {
        name: Unfilled(words, shell_line("rushkit", verb, *first.named_by, *flags))
        for name, (verb, *flags) in _COMMANDS.items()
    }
    if all(model.about.get("noise") == "none" for model in models):
        lines["certified"] = Unfilled("without noise there is no certificate")
    return lines | others
