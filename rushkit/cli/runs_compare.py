"""``rushkit runs compare``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_runs
from rushkit.cli.options import NAMES_A_RUN, Json, Output, RunsDir
from rushkit.errors import UsageError

if TYPE_CHECKING:
    from rushkit.report.families import Family
    from rushkit.results.certification import Certification
    from rushkit.run.info import RunInfo

EXAMPLE = "Example: rushkit runs compare RUN RUN"
# Verbs whose runs stand for themselves; a model stands for all that was measured of it.
_MEASURED = ("evaluate", "attack")


def command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help=f"{NAMES_A_RUN}.", autocompletion=complete_runs)],
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--pair",
            metavar="A,B",
            help="Test these two image by image: ids, or places such as 1,3; may be repeated. Of three runs or fewer "
            "every pair is tested.",
        ),
    ] = None,
    all_pairs: Annotated[bool, typer.Option("--all-pairs", help="Test every pair.")] = False,
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """Runs side by side: figures, the recipe keys in which they differ, and McNemar's test where they share images."""
    from rushkit.documents.runs import ComparedRuns, ToldRuns
    from rushkit.report.beside import figure_rows, labels
    from rushkit.report.compare import certificate_notes, recipe_differences, significance
    from rushkit.report.families import Family, gather, recipe_of_run
    from rushkit.report.tables.comparison import is_no_bound
    from rushkit.report.taken_together import worst_of
    from rushkit.report.terminal.comparison import FEW, comparison_table
    from rushkit.report.terminal.headline import figure_of, methods_of
    from rushkit.results.attacks import Attacks
    from rushkit.results.words import PROTOCOL_NOTE
    from rushkit.run.named import run_named, short_ids

    if len(runs) < 2:
        raise UsageError("one run cannot be compared", "name two or more: rushkit runs compare RUN RUN")
    named = [run_named(spec, runs_dir) for spec in runs]
    compared = [run for run, _ in named]
    ids = short_ids(compared)
    asked = _pairs(pairs or [], runs, ids)
    if not asked and (all_pairs or len(runs) <= FEW):
        asked = list(combinations(range(len(runs)), 2))
    headlines = [figure_of(run, run.record()) for run in compared]
    families = [Family(run, (run,)) if run.verb in _MEASURED else gather(run) for run in compared]
    facts = _facts(compared) | {"figure": [figure.words for figure in headlines]}
    differing = recipe_differences([recipe_of_run(run) for run in compared])
    tests = significance(families, ids, asked)
    methods = methods_of(compared)
    certified = _certified(compared, families)
    worst = worst_of([pair for family in families for pair in family.results(Attacks)])
    figures = figure_rows([[results for _, results in family.records] for family in families])
    certificates = certificate_notes(ids, certified)
    notes = [f"note: {note}" for note in dict.fromkeys([*(note for _, note in named if note), *certificates])]
    if not asked:
        notes.append("pairs are tested image by image with --pair A,B or --all-pairs")
    attacked = any(row.name == "robust_accuracy" and " strict" not in row.what for row in figures)
    if attacked or any(figure.needs_note for figure in headlines) or any(is_no_bound(test.what) for test in tests):
        notes.append(PROTOCOL_NOTE)
    names = labels(differing, ids)
    told = facts if len(runs) <= FEW else {key: row for key, row in facts.items() if len(set(row)) > 1}
    table = comparison_table(names, ids, {**told, **methods, **differing}, figures, tests, notes, worst)
    found = differing, certificates, figures, worst, tests, methods.get("certified by"), methods.get("together")
    data = ComparedRuns([str(run.path) for run in compared], ids, names, *found, ToldRuns(**facts))
    Output(json).result(data.plain(), table)


def _certified(compared: Sequence[RunInfo], families: Sequence[Family]) -> list[list[Certification]]:
    """Return the certifications of each; one stands for itself too, though its model's other figures are compared."""
    from rushkit.results.certification import Certification

    return [
        [results for run, results in family.results(Certification) if chosen.verb != "certify" or run == chosen]
        for chosen, family in zip(compared, families, strict=True)
    ]


def _facts(runs: Sequence[RunInfo]) -> dict[str, list[str]]:
    """Return what run.json says of each run."""
    return {
        "verb": [run.verb for run in runs],
        "recipe": [run.recipe for run in runs],
        "status": [run.status for run in runs],
        "started": [run.started[:19] for run in runs],
        "machine": [run.about.machine for run in runs],
    }


def _pairs(pairs: Sequence[str], specs: Sequence[str], ids: Sequence[str]) -> list[tuple[int, int]]:
    """Return the places of the two runs of each pair. Raises UsageError for what names none of the runs."""
    return [_pair(pair, specs, ids) for pair in dict.fromkeys(pairs)]


def _pair(pair: str, specs: Sequence[str], ids: Sequence[str]) -> tuple[int, int]:
    words = [word.strip() for word in pair.split(",")]
    known = {str(place + 1): place for place in range(len(ids))}
    known = {**known, **{name: place for names in (specs, ids) for place, name in enumerate(names)}}
    if len(words) != 2 or words[0] == words[1]:
        raise UsageError(f"--pair {pair!r} is not A,B", f"for example --pair {ids[0]},{ids[1]}")
    lost = next((word for word in words if word not in known), None)
    if lost is not None:
        raise UsageError(
            f"--pair {pair}: {lost!r} is none of the runs", f"they are {', '.join(ids)}, or 1 to {len(ids)}"
        )
    return known[words[0]], known[words[1]]
