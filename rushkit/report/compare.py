"""Several models side by side: in what their recipes differ, and whether they differ image by image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from rushkit.errors import RushkitError
from rushkit.recipe import toml
from rushkit.recipe.schema import Recipe
from rushkit.report.collect import Family, recipe_of_run
from rushkit.report.headline import OTHER_FORMAT
from rushkit.statistics import mcnemar

# Where things lie, what a run was called, and the device that it asked for: each run's record says what it ran on.
_SILENT = ("system.data_dir", "system.runs_dir", "system.device", "name", "schema")


def recipe_differences(recipes: Sequence[Recipe | None]) -> dict[str, list[Any]]:
    """Dotted key -> its value in each recipe, for the keys in which they differ; None where a recipe lacks it."""
    flat = [toml.flatten(recipe.resolved()) if recipe else {} for recipe in recipes]
    keys = dict.fromkeys(key for each in flat for key in each if key not in _SILENT)
    rows = {key: [each.get(key) for each in flat] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def significance(families: Sequence[Family], names: Sequence[str]) -> list[dict[str, Any]]:
    """McNemar's exact test for each two models and each measurement of the same images that both have.

    An image counts as right under attack where most of its votes are. Images are the same where the recipes name the
    same data, the runs the same split, and every common image has the same label. Attacks are compared where both
    models were attacked by the same candidates with the same options, for a weaker one leaves more. Of several runs of
    one thing that counts which a report shows: of strict attacks the one that leaves least of the common images, else
    the newest of those on the most images.

    Returns:
        Rows of what was measured, the two names, how many images they share, how many each alone has right, and the
        two-sided p-value. It is not corrected for the number of rows.
    """
    measured = [_measurements(family) for family in families]
    rows = []
    for (first, one), (second, other) in combinations(zip(names, measured, strict=True), 2):
        for what in one:
            if what not in other:
                continue
            alike = {found.settings for found in one[what]} & {found.settings for found in other[what]}
            both = [[found for found in each[what] if found.settings in alike] for each in (one, other)]
            if not alike:
                continue
            common = sorted(_largest(both[0]).labels.keys() & _largest(both[1]).labels.keys())
            ours, theirs = (_standing(found, common) for found in both)
            if not common or any(ours.labels[index] != theirs.labels[index] for index in common):
                continue
            right = np.array([[each.share[index] > 0.5 for each in (ours, theirs)] for index in common])
            only_first = int((right[:, 0] & ~right[:, 1]).sum())
            only_second = int((right[:, 1] & ~right[:, 0]).sum())
            rows.append(
                {
                    "what": _words(what),
                    "first": first,
                    "second": second,
                    "images": len(common),
                    "both": int(right.all(axis=1).sum()),
                    "only_first": only_first,
                    "only_second": only_second,
                    "p_value": float(mcnemar(only_first, only_second)),
                }
            )
    return rows


@dataclass(frozen=True)
class _Outcomes:
    """What one run says of its images.

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


def _largest(found: Sequence[_Outcomes]) -> _Outcomes:
    """The newest of those on the most images; the oldest comes first."""
    return max(reversed(found), key=lambda one: len(one.labels))


def _standing(found: Sequence[_Outcomes], common: Sequence[int]) -> _Outcomes:
    """The outcomes that stand for a model on images, all of which the largest has."""
    largest = _largest(found)
    labels = [largest.labels[index] for index in common]
    if not largest.bound:
        return largest
    same = [one for one in found if [one.labels.get(index) for index in common] == labels]
    return min(reversed(same), key=lambda one: sum(one.share[index] for index in common))


def _measurements(family: Family) -> dict[tuple[Any, ...], list[_Outcomes]]:
    """What was measured of a model under its own noise -> its outcomes, those of the oldest run first."""
    own = recipe_of_run(family.model)
    found: dict[tuple[Any, ...], list[_Outcomes]] = {}
    for run in family.of("evaluate", "attack"):
        results, recipe = run.results(), recipe_of_run(run)
        if results is None or recipe is None or (own is not None and recipe.noise != own.noise):
            continue
        read = _clean if run.verb == "evaluate" else _attacked
        try:
            for what, outcomes in read(recipe, results):
                found.setdefault(what, []).append(outcomes)
        except OTHER_FORMAT as error:
            raise RushkitError(
                f"the results of {run.path} are not in the format of this rushkit: {type(error).__name__} {error}",
                "measure again, or use the version that wrote them (run.json names it)",
            ) from error
    return found


def _clean(recipe: Recipe, results: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], _Outcomes]]:
    labels = dict(enumerate(results["outcomes"]["labels"]))
    for samples, rules in results["outcomes"]["predicted"].items():
        for rule, predicted in rules.items():
            # One draw votes for what it believes in most.
            if samples == "1" and rule == "mean" and "majority" in rules:
                continue
            share = {index: float(guess == labels[index]) for index, guess in enumerate(predicted)}
            yield (_images(recipe), results["data"], "clean", int(samples), rule), _Outcomes(labels, share)


def _attacked(recipe: Recipe, results: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], _Outcomes]]:
    for row in results["attacks"]:
        split = row.get("split", f"{recipe.data.name}/{_split_of(recipe, row)}")
        outcomes = row["outcomes"]
        labels = dict(zip(outcomes["images"], outcomes["labels"], strict=True))
        right = np.array(outcomes["right"]["majority"]) / row["votes"]
        share = dict(zip(outcomes["images"], right.tolist(), strict=True))
        ball = (row["attack"], row["norm"], row["eps"], row["protocol"], json.dumps(row["deviations"]))
        what = (_images(recipe), split, "attack", row["samples"], ball)
        yield what, _Outcomes(labels, share, bound=row["protocol"] == "strict", settings=_settings(row))


def _settings(row: Mapping[str, Any]) -> str:
    """What the strength of an attack depends on."""
    candidates = [
        (each["label"], sorted((key, value) for key, value in each["options"].items() if key != "seed"))
        for each in row["candidates"]
    ]
    return repr((row["gradient_samples"], candidates))


def _images(recipe: Recipe) -> str:
    """The section that the order and choice of the images follow from; a run may have another model, seed and noise."""
    return toml.dumps(recipe.data.model_dump())


def _split_of(recipe: Recipe, row: Mapping[str, Any]) -> str:
    """For a row from when rows did not say."""
    ball = (row["attack"], row["norm"], row["eps"])
    return next((each.split for each in recipe.attack if (each.type, each.norm, each.eps) == ball), "test")


def _words(what: tuple[Any, ...]) -> dict[str, Any]:
    _, data, kind, samples, more = what
    if kind == "clean":
        return {"data": data, "samples": samples, "rule": more}
    attack, norm, eps, protocol, deviations = more
    ball = {"attack": attack, "norm": norm, "eps": eps}
    return {"data": data, "samples": samples, **ball, "protocol": protocol, "deviations": json.loads(deviations)}
