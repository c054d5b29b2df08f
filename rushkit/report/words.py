"""How a report says what is in its document, in whatever form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rushkit.recipe import toml
from rushkit.report.certified import norm_words
from rushkit.report.tables import eps_words, percent


def paragraphs(note: str) -> list[str]:
    """The sentences of a note that is set in lines for a terminal: a new one begins with a protocol's name."""
    return re.sub(r"\n(?!(?:paper|strict): )", " ", note).split("\n")


def reported_cells(reported: Mapping[str, float | None] | None) -> tuple[str, str, str]:
    """The paper's standard, PGD and AutoAttack figures in %, with a dash for what it does not report."""
    values = [None, None, None] if reported is None else [reported[key] for key in ("standard", "pgd", "autoattack")]
    standard, pgd, autoattack = ("–" if value is None else percent(value) for value in values)
    return standard, pgd, autoattack


def attack_pairs(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Mapping[str, Any]]]:
    """Protocol -> row, for each split, noise, attack, ball and m; by attack, norm, eps and m."""
    pairs: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        key = (row["data"], row["split"], str(row["noise"]), row["attack"], row["norm"], row["eps"], row["samples"])
        pairs.setdefault(key, {})[row["protocol"]] = row
    return [pairs[key] for key in sorted(pairs)]


def images_words(row: Mapping[str, Any]) -> str:
    """On how many images an attack's figure is: "500", "500 of train", "500, of 3 runs"."""
    split = str(row["split"]).rpartition("/")[2] if "split" in row else "test"
    where = "" if split == "test" else f" of {split}"
    runs = row.get("chosen_from", 1)
    return f"{row['images']}{where}" + (f", of {runs} runs" if runs > 1 else "")


def measurement(what: Mapping[str, Any]) -> str:
    """What was compared: "digits/test, pgd l-inf 8/255, strict, m = 64"."""
    under = "clean"
    if "attack" in what:
        under = f"{what['attack']} {norm_words(what['norm'])} {eps_words(what['eps'])}, {what['protocol']}"
    rule = f", {what['rule']} rule" if what.get("rule", "majority") != "majority" else ""
    return f"{what['data']}, {under}, m = {what['samples']}{rule}"


def p_value(p: float) -> str:
    """0.0321 -> "0.032"; what is below 0.001 is said to be."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def value_words(value: Any) -> str:
    """A value of a recipe or a result; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else toml.format_value(value)


def command_lines(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The commands behind the runs, oldest first, each once."""
    return list(dict.fromkeys(run["command"] for run in runs if run["command"]))
