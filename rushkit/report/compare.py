"""Several models side by side: in what their recipes differ, and whether they differ image by image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from rushkit.recipe import toml
from rushkit.recipe.radius import norm_words
from rushkit.recipe.schema import Norm, Recipe
from rushkit.report.families import Family, recipe_of_run
from rushkit.report.significance import AttackMeasurement, CleanMeasurement, Significance
from rushkit.report.words import value_words
from rushkit.results.attacks import AttackRow, Attacks
from rushkit.results.certification import Certification
from rushkit.results.evaluation import Evaluation
from rushkit.statistics import holm, mcnemar

# Keys that change no figure: folders, names, and the requested device; run.json says what a run really used.
_SILENT = ("system.data_dir", "system.runs_dir", "system.device", "name", "schema")


def recipe_differences(recipes: Sequence[Recipe | None]) -> dict[str, list[toml.Toml]]:
    """Return dotted key -> its value in each recipe, for keys that differ; None if a recipe lacks the key."""
    flat = [toml.flatten(recipe.resolved()) if recipe else {} for recipe in recipes]
    keys = dict.fromkeys(key for values in flat for key in values if key not in _SILENT)
    rows: dict[str, list[toml.Toml]] = {key: [values.get(key) for values in flat] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def significance(
    families: Sequence[Family], names: Sequence[str], pairs: Iterable[tuple[int, int]] | None = None
) -> list[Significance]:
    """Run McNemar's exact test on pairs of models and every measurement that both have of the same images.

    The p-values are corrected for the number of all these tests.

    An image counts as right under attack where most of its votes are. Images are the same where the recipes name the
    same data, the runs the same split, and every common image has the same label. Attacks are compared where both
    models were attacked by the same candidates with the same options, for a weaker one leaves more. Of several runs of
    the same measurement, the one that a report shows counts: of strict attacks the one that leaves least of the common
    images, else the newest of those on the most images.

    Args:
        families: The models.
        names: Of the models.
        pairs: The places of the two models of each pair; None: every pair.
    """
    pairs = list(combinations(range(len(families)), 2) if pairs is None else pairs)
    measured = {place: _measurements(families[place]) for place in {place for pair in pairs for place in pair}}
    tests = []
    for first, second in pairs:
        for key, (what, outcomes) in measured[first].items():
            theirs = measured[second].get(key)
            if theirs is not None and (counts := _compared(outcomes, theirs[1])):
                images, both, only_first, only_second = counts
                p = float(mcnemar(only_first, only_second))
                named = what, names[first], names[second]
                tests.append(Significance(*named, images, both, only_first, only_second, p, corrected=p))
    corrected = holm([test.p_value for test in tests])
    return [replace(test, corrected=p) for test, p in zip(tests, corrected, strict=True)]


def certificate_notes(names: Sequence[str], certified: Sequence[Sequence[Certification]]) -> list[str]:
    """Return a sentence for each two models and norm whose certificates were not made alike.

    Args:
        names: Of the models.
        certified: The certifications of each, oldest first; in a norm the newest of those on the most images counts.
    """
    sides = [
        (name, {one.norm: one for one in sorted(results, key=lambda one: one.images)})
        for name, results in zip(names, certified, strict=True)
        if results
    ]
    return [note for one, other in combinations(sides, 2) for note in _notes(*one, *other)]


def _notes(
    one: str, ours: Mapping[Norm, Certification], other: str, theirs: Mapping[Norm, Certification]
) -> Iterator[str]:
    if not ours.keys() & theirs.keys():
        yield f"{one} is certified in {_norms(ours)}, {other} in {_norms(theirs)}: their radii are not comparable"
    for norm in sorted(ours.keys() & theirs.keys()):
        if differ := _made_differently(ours[norm], theirs[norm]):
            yield (
                f"{one} and {other}, {norm_words(norm)}: certified with {', '.join(differ)}; a difference between "
                "their certified accuracies is not one of the models alone"
            )


def _norms(certified: Mapping[Norm, Certification]) -> str:
    return " and ".join(map(norm_words, certified))


def _made_differently(one: Certification, other: Certification) -> list[str]:
    """Return in what the making of two certifications differs: "another alpha (0.001, 0.01)"."""
    keys = {"bound": "bound", "mode": "method", "rule": "rule", "two_class": "two_class", "alpha": "alpha"}
    keys |= {"samples": "number of draws", "data": "data", "images": "number of images"}
    if one.noise.name == other.noise.name:
        # Else the theorem differs with the noise, which is a difference of the smoothed models.
        keys["theorem"] = "theorem"
    pairs = {words: (getattr(one, key), getattr(other, key)) for key, words in keys.items()}
    return [f"another {words} ({value_words(a)}, {value_words(b)})" for words, (a, b) in pairs.items() if a != b]


@dataclass(frozen=True)
class _Outcomes:
    """The outcomes of one run by image.

    Attributes:
        labels: Index of an image -> its label.
        share: Index of an image -> the share of its votes that were right.
        bound: Whether the run is an upper bound, so that of several the lowest counts.
        settings: How it was attacked, but for the seed; empty without an attack.
    """

    labels: dict[int, int]
    share: dict[int, float]
    bound: bool = False
    settings: str = ""


_What = CleanMeasurement | AttackMeasurement
# Tells measurements of the same thing -> the thing, and the outcomes of each run, those of the oldest first.
_Measurements = dict[str, tuple[_What, list[_Outcomes]]]


def _compared(one: Sequence[_Outcomes], other: Sequence[_Outcomes]) -> tuple[int, int, int, int] | None:
    """Count the images that two models share, that both have right, and that one alone has right; None if none."""
    alike = {outcomes.settings for outcomes in one} & {outcomes.settings for outcomes in other}
    if not alike:
        return None
    sides = [[outcomes for outcomes in side if outcomes.settings in alike] for side in (one, other)]
    common = sorted(_largest(sides[0]).labels.keys() & _largest(sides[1]).labels.keys())
    ours, theirs = (_representative(side, common) for side in sides)
    if not common or any(ours.labels[index] != theirs.labels[index] for index in common):
        return None
    right = np.array([[outcomes.share[index] > 0.5 for outcomes in (ours, theirs)] for index in common])
    only_first, only_second = (right[:, 0] & ~right[:, 1]).sum(), (right[:, 1] & ~right[:, 0]).sum()
    return len(common), int(right.all(axis=1).sum()), int(only_first), int(only_second)


def _largest(runs: Sequence[_Outcomes]) -> _Outcomes:
    """Return the newest of the runs on the most images; ``runs`` has the oldest first."""
    return max(reversed(runs), key=lambda outcomes: len(outcomes.labels))


def _representative(runs: Sequence[_Outcomes], common: Sequence[int]) -> _Outcomes:
    """Return the outcomes that stand for a model on images, all of which the largest run has."""
    largest = _largest(runs)
    labels = [largest.labels[index] for index in common]
    if not largest.bound:
        return largest
    same = [outcomes for outcomes in runs if [outcomes.labels.get(index) for index in common] == labels]
    return min(reversed(same), key=lambda outcomes: sum(outcomes.share[index] for index in common))


def _measurements(family: Family) -> _Measurements:
    """Return the measurements of a model under its own noise."""
    model = recipe_of_run(family.model)
    measurements: _Measurements = {}
    clean = [(run, _clean(results)) for run, results in family.results(Evaluation)]
    attacked = [(run, _attacked(results)) for run, results in family.results(Attacks)]
    for run, measured in [*clean, *attacked]:
        recipe = recipe_of_run(run)
        if recipe is None or (model is not None and recipe.noise != model.noise):
            continue
        for what, outcomes in measured:
            # The order and choice of the images follow from the data section; model, seed and noise may differ.
            key = repr((toml.dumps(recipe.data.model_dump()), what.plain()))
            measurements.setdefault(key, (what, []))[1].append(outcomes)
    return measurements


def _clean(results: Evaluation) -> Iterator[tuple[_What, _Outcomes]]:
    indices = results.outcomes.images
    labels = dict(zip(indices, results.outcomes.labels, strict=True))
    for samples, rules in results.outcomes.predicted.items():
        for rule, predicted in rules.items():
            # With a single draw, the mean rule and the vote are the same.
            if samples == "1" and rule == "mean" and "majority" in rules:
                continue
            share = {index: float(guess == labels[index]) for index, guess in zip(indices, predicted, strict=True)}
            yield CleanMeasurement(results.data, int(samples), rule, results.precision), _Outcomes(labels, share)


def _attacked(results: Attacks) -> Iterator[tuple[_What, _Outcomes]]:
    for row in results.attacks:
        outcomes = row.outcomes
        labels = dict(zip(outcomes.indices, outcomes.labels, strict=True))
        right = np.array(outcomes.right["majority"]) / row.votes
        share = dict(zip(outcomes.indices, right.tolist(), strict=True))
        variant = row.protocol, row.version, row.effort
        what = AttackMeasurement(row.split, row.samples, row.attack, row.norm, row.eps, *variant, row.deviations)
        yield what, _Outcomes(labels, share, bound=row.protocol == "strict", settings=_settings(row))


def _settings(row: AttackRow) -> str:
    """Return the settings that determine the strength of an attack, as text."""
    candidates = [
        (candidate.label, sorted((key, value) for key, value in candidate.options.items() if key != "seed"))
        for candidate in row.candidates
    ]
    return repr((row.gradient_samples, candidates, row.rounds, row.selection, row.thresholds))
