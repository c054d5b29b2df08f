"""How a report says what is in its document, in whatever form."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rushkit.recipe import toml
from rushkit.recipe.radius import ball_words
from rushkit.report.paper import TERMS
from rushkit.report.protocols import protocol_words
from rushkit.rounding import percent
from rushkit.run.folder import CHECKPOINTS, RECIPE_FILE
from rushkit.run.info import RunInfo

# What the command is called in argv: the script, `python -m rushkit`, and Windows.
_PROGRAMS = ("rushkit", "__main__.py", "rushkit.exe")


def paragraphs(note: str) -> list[str]:
    """The sentences of a note that is set in lines for a terminal: a new one begins with a protocol's name."""
    return re.sub(r"\n(?!(?:paper|strict|weaker): )", " ", note).split("\n")


def footnote(shown: str) -> str:
    """What the terms mean that appear in a text; empty where none does."""
    used = [term for term in TERMS if re.search(rf"\b{re.escape(term)}(?![\w+])", shown)]
    return "; ".join(f"{term}: {TERMS[term]}" for term in used) + "." if used else ""


def reported_cells(reported: Mapping[str, float | None] | None) -> tuple[str, str, str]:
    """The paper's standard, PGD and AutoAttack figures in %, with a dash for what it does not report."""
    values = [None, None, None] if reported is None else [reported[key] for key in ("standard", "pgd", "autoattack")]
    standard, pgd, autoattack = ("–" if value is None else percent(value) for value in values)
    return standard, pgd, autoattack


def images_words(row: Mapping[str, Any]) -> str:
    """On how many images an attack's figure is: "500", "500 of train", "500, of 3 runs"."""
    split = str(row["split"]).rpartition("/")[2] if "split" in row else "test"
    where = "" if split == "test" else f" of {split}"
    runs = row.get("chosen_from", 1)
    return f"{row['images']}{where}" + (f", of {runs} runs" if runs > 1 else "")


def encoder_words(name: str) -> str:
    """What encoder a probe looked at."""
    return "random weights" if name == "random" else name


def points_words(way: str) -> str:
    """Where a probe's x' come from."""
    return {"random": "random in the ball", "ascent": "found by ascent"}.get(way, way)


def certainty(certified: Mapping[str, Any]) -> str:
    """How sure a certification is: "alpha 0.001 for each image, clopper-pearson, 10000 draws", or "exact"."""
    if not certified["alpha"]:
        return "exact"
    return f"alpha {certified['alpha']:g} for each image, {certified['bound']}, {certified['samples']} draws"


def measurement(what: Mapping[str, Any]) -> str:
    """What was compared: "digits/test, pgd l-inf 8/255, strict, m = 64"."""
    under = "clean"
    if "attack" in what:
        under = f"{what['attack']} {ball_words(what['norm'], what['eps'])}, {protocol_words(what)}"
    rule = f", {what['rule']} rule" if what.get("rule", "majority") != "majority" else ""
    return f"{what['data']}, {under}, m = {what['samples']}{rule}"


def p_value(p: float) -> str:
    """0.0321 -> "0.032"; what is below 0.001 is said to be."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def points(difference: float) -> str:
    """A difference of shares in points of a percent, with its sign: 0.012 -> "+1.2"."""
    return f"{100 * difference:+.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")


def value_words(value: Any) -> str:
    """A value of a recipe or a result; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else toml.format_value(value)


def run_of_checkpoint(path: str) -> str:
    """The name of the run that a checkpoint's path leads through; the path itself where it leads through none."""
    parts = path.replace("\\", "/").split("/")
    return parts[-3] if len(parts) > 2 and parts[-2] == CHECKPOINTS else path


def command_of(run: RunInfo) -> str | None:
    """The command that started a run, as it was typed; None where it was a Python program."""
    argv = run.data.get("argv")
    if not isinstance(argv, list) or len(argv) < 2:
        return None
    program = str(argv[0]).replace("\\", "/").rpartition("/")[2]
    return shlex.join(["rushkit", *map(str, argv[1:])]) if program in _PROGRAMS else None


def command_lines(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The commands behind the runs, oldest first, each once; a comment for those that a Python program started."""
    lines = (
        run["command"] or f"# {run['stage']} was called from Python; its recipe: {Path(run['run']).name}/{RECIPE_FILE}"
        for run in runs
    )
    return list(dict.fromkeys(lines))
