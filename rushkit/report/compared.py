"""Compare runs from their names: the Python interface of ``rushkit runs compare``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from rushkit.errors import UsageError
from rushkit.recipe.load import default_runs_dir
from rushkit.recipe.toml import Toml
from rushkit.report.beside import FigureRow, figure_rows, labels, number_cell
from rushkit.report.compare import certificate_notes, recipe_differences, significance
from rushkit.report.families import Family, gather, recipe_of_run
from rushkit.report.sheets import Part, Sheet, Titled, sheet_of
from rushkit.report.significance import Significance
from rushkit.report.table import Column, build_table, column
from rushkit.report.tables.comparison import is_no_bound, measurement, significance_table, values_table
from rushkit.report.tables.worst import worst_table
from rushkit.report.taken_together import worst_of
from rushkit.report.terminal.comparison import FEW
from rushkit.report.terminal.headline import figure_of, methods_of
from rushkit.report.worst import Worst
from rushkit.results.attacks import Attacks
from rushkit.results.certification import Certification
from rushkit.results.rows import Row, Tabular, no_images, rows_of
from rushkit.results.words import PROTOCOL_NOTE, noise_words
from rushkit.run.info import RunInfo
from rushkit.run.named import run_named, short_ids

# Verbs whose runs stand for themselves; a model stands for all that was measured of it.
_MEASURED = ("evaluate", "attack")


@dataclass(frozen=True, repr=False)
class Comparison(Tabular):
    """Runs side by side.

    Attributes:
        runs: Their folders.
        ids: The short names that mean them to other commands.
        names: What to call them by: the values of the keys that tell them apart.
        facts: What run.json says of each, by name.
        methods: How each was certified, by name; empty if none was.
        recipes: The recipe keys in which they differ, with the value of each.
        figures: Every figure, with that of each run.
        worst: What strict attacks on one model and the same images leave together.
        tests: McNemar's tests, image by image.
        certificates: A sentence for each two models whose certificates were not made alike.
        notes: Other sentences that a reader needs.
    """

    runs: tuple[str, ...]
    ids: tuple[str, ...]
    names: tuple[str, ...]
    facts: Mapping[str, list[str]]
    methods: Mapping[str, list[str | None]]
    recipes: Mapping[str, Sequence[Toml]]
    figures: tuple[FigureRow, ...]
    worst: tuple[Worst, ...]
    tests: tuple[Significance, ...]
    certificates: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.ids)}: {len(self.figures)} figures, {len(self.tests)} tests)"


def compare(
    *runs: str | Path, pairs: Sequence[str] = (), all_pairs: bool = False, runs_dir: str | Path | None = None
) -> Comparison:
    """Put runs side by side: figures, the recipe keys in which they differ, and McNemar's test where they share images.

    Example::

        rushkit.compare("cifar10", "cifar10-simclr").to_dataframe()

    Args:
        *runs: What names runs of any stage, two or more: a folder, an id, the end of one, or a recipe.
        pairs: Test these image by image: ids, or places such as ``"1,3"``; of three runs or fewer every pair is tested.
        all_pairs: Test every pair.
        runs_dir: Where runs are looked for; None: ``$RUSHKIT_RUNS``, else ``runs``.

    Raises:
        UsageError: fewer than two runs, no such run, or a pair that names none of them.
    """
    if len(runs) < 2:
        raise UsageError("one run cannot be compared", "name two or more: rushkit runs compare RUN RUN")
    specs = [str(run) for run in runs]
    named = [run_named(spec, runs_dir or default_runs_dir()) for spec in specs]
    compared = [run for run, _ in named]
    ids = short_ids(compared)
    tested = [_pair(pair, specs, ids) for pair in dict.fromkeys(pairs)]
    if not tested and (all_pairs or len(runs) <= FEW):
        tested = list(combinations(range(len(runs)), 2))
    headlines = [figure_of(run, run.record()) for run in compared]
    families = [Family(run, (run,)) if run.verb in _MEASURED else gather(run) for run in compared]
    differing = recipe_differences([recipe_of_run(run) for run in compared])
    tests = significance(families, ids, tested)
    # A certification stands for itself too, though its model's other measurements are compared.
    certified = [
        [results for run, results in family.results(Certification) if chosen.verb != "certify" or run == chosen]
        for chosen, family in zip(compared, families, strict=True)
    ]
    figures = figure_rows([[results for _, results in family.records] for family in families])
    notes = list(dict.fromkeys(f"note: {note}" for _, note in named if note))
    if not tested:
        notes.append("pairs are tested image by image with --pair A,B or --all-pairs")
    attacked = any(row.name == "robust_accuracy" and " strict" not in row.what for row in figures)
    if attacked or any(figure.needs_note for figure in headlines) or any(is_no_bound(test.what) for test in tests):
        notes.append(PROTOCOL_NOTE)
    return Comparison(
        runs=tuple(str(run.path) for run in compared),
        ids=tuple(ids),
        names=tuple(labels(differing, ids)),
        facts=_facts(compared) | {"figure": [figure.words for figure in headlines]},
        methods=methods_of(compared),
        recipes=differing,
        figures=tuple(figures),
        worst=tuple(worst_of([pair for family in families for pair in family.results(Attacks)])),
        tests=tuple(tests),
        certificates=tuple(certificate_notes(ids, certified)),
        notes=tuple(notes),
    )


def told_facts(comparison: Comparison) -> dict[str, Sequence[Toml]]:
    """Return what a reader is told of each run beside its figures: of many runs only what tells them apart."""
    few = len(comparison.runs) <= FEW
    facts = {key: row for key, row in comparison.facts.items() if few or len(set(row)) > 1}
    return {**facts, **comparison.methods, **comparison.recipes}


def said_notes(comparison: Comparison) -> list[str]:
    """Return every sentence that belongs to a comparison, those on certificates first."""
    return [*(f"note: {note}" for note in comparison.certificates), *comparison.notes]


@sheet_of.register
def _(comparison: Comparison) -> Sheet:
    """Return figures, facts and recipe keys of each run, and McNemar's test where two share images."""
    called = zip(comparison.names, comparison.ids, strict=True)
    names = [name if id_ in name else f"{name} ({id_})" for name, id_ in called]
    columns: list[Column[FigureRow]] = [
        column("figure", lambda row: row.name.replace("_", " "), left=True),
        column("of", lambda row: row.what, left=True),
        *(_figure_column(place, name) for place, name in enumerate(names)),
    ]
    parts: list[Part] = []
    if comparison.figures:
        parts.append(Titled(build_table(comparison.figures, columns), "figures; shares in % with 95% intervals"))
    parts.append(Titled(values_table(names, told_facts(comparison), first=""), "the runs"))
    if comparison.tests:
        corrected = f"p, Holm: corrected for these {len(comparison.tests)} tests"
        title = f"image by image (McNemar's exact test; {corrected})"
        parts.append(Titled(significance_table(comparison.tests), title))
    if table := worst_table([("", comparison.worst)]):
        parts.append(Titled(table))
        parts.append("\n".join(one.statement(noise_words(one.noise)) for one in comparison.worst))
    return *parts, *said_notes(comparison)


@rows_of.register
def _(comparison: Comparison, per_image: bool) -> list[Row]:
    if per_image:
        raise no_images(comparison)
    rows: list[Row] = []
    which = list(zip(comparison.names, comparison.ids, comparison.runs, strict=True))
    for row in comparison.figures:
        for (name, id_, run), number in zip(which, row.numbers, strict=True):
            if number is not None:
                about: Row = {"model": name, "id": id_, "run": run, "figure": row.name, "what": row.what}
                about |= {"value": number.value, "low": number.low, "high": number.high, "images": number.images}
                rows.append(about)
    for test in comparison.tests:
        pair: Row = {"model": test.first, "other": test.second, "figure": "mcnemar_p_value"}
        pair |= {"what": measurement(test.what), "value": test.p_value, "corrected": test.corrected}
        rows.append({**pair, "images": test.images, "only_first": test.only_first, "only_second": test.only_second})
    return rows


def _figure_column(place: int, name: str) -> Column[FigureRow]:
    return column(name, lambda row: number_cell(row.numbers[place]))


def _facts(runs: Sequence[RunInfo]) -> dict[str, list[str]]:
    """Return what run.json says of each run."""
    return {
        "verb": [run.verb for run in runs],
        "recipe": [run.recipe for run in runs],
        "status": [run.status for run in runs],
        "started": [run.started[:19] for run in runs],
        "machine": [run.about.machine for run in runs],
    }


def _pair(pair: str, specs: Sequence[str], ids: Sequence[str]) -> tuple[int, int]:
    """Return the places of the two runs of a pair. Raises UsageError for what names none of the runs."""
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
