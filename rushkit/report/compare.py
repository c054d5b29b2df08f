"""Several models side by side: in what their recipes differ, and whether they differ image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from rushkit.recipe import toml
from rushkit.recipe.schema import Recipe
from rushkit.report.collect import Family, recipe_of_run
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
    same data, the runs the same split, and every common image has the same label.

    Returns:
        Rows of what was measured, the two names, how many images they share, how many each alone has right, and the
        two-sided p-value. It is not corrected for the number of rows.
    """
    measured = [dict(_measurements(family)) for family in families]
    rows = []
    for (first, one), (second, other) in combinations(zip(names, measured, strict=True), 2):
        for what in one:
            if what not in other:
                continue
            (labels, right), (their_labels, theirs) = one[what], other[what]
            common = sorted(right.keys() & theirs.keys())
            if not common or any(labels[index] != their_labels[index] for index in common):
                continue
            ours = np.array([[right[index], theirs[index]] for index in common])
            only_first = int((ours[:, 0] & ~ours[:, 1]).sum())
            only_second = int((ours[:, 1] & ~ours[:, 0]).sum())
            rows.append(
                {
                    "what": _words(what),
                    "first": first,
                    "second": second,
                    "images": len(common),
                    "both": int(ours.all(axis=1).sum()),
                    "only_first": only_first,
                    "only_second": only_second,
                    "p_value": float(mcnemar(only_first, only_second)),
                }
            )
    return rows


# Index of an image -> its label, and whether it was right.
_Outcomes = tuple[dict[int, int], dict[int, bool]]


def _measurements(family: Family) -> Iterator[tuple[tuple[Any, ...], _Outcomes]]:
    """What was measured of a model under its own noise -> its outcomes; of several runs the newest comes last."""
    own = recipe_of_run(family.model)
    for run in family.of("evaluate", "attack"):
        results, recipe = run.results(), recipe_of_run(run)
        if results is None or recipe is None or (own is not None and recipe.noise != own.noise):
            continue
        # The order and choice of the images follow from this section; a run may have another model, seed and noise.
        data = toml.dumps(recipe.data.model_dump())
        if run.verb == "evaluate":
            labels = dict(enumerate(results["outcomes"]["labels"]))
            for samples, rules in results["outcomes"]["predicted"].items():
                for rule, predicted in rules.items():
                    # One draw votes for what it believes in most.
                    if samples == "1" and rule == "mean" and "majority" in rules:
                        continue
                    right = {index: guess == labels[index] for index, guess in enumerate(predicted)}
                    yield (data, results["data"], "clean", int(samples), rule), (labels, right)
            continue
        for row in results["attacks"]:
            split = row.get("split", f"{recipe.data.name}/{_split_of(recipe, row)}")
            outcomes = row["outcomes"]
            labels = dict(zip(outcomes["images"], outcomes["labels"], strict=True))
            share = np.array(outcomes["right"]["majority"]) / row["votes"]
            right = dict(zip(outcomes["images"], (share > 0.5).tolist(), strict=True))
            ball = (row["attack"], row["norm"], row["eps"], row["protocol"])
            yield (data, split, "attack", row["samples"], ball), (labels, right)


def _split_of(recipe: Recipe, row: Mapping[str, Any]) -> str:
    """For a row from when rows did not say."""
    ball = (row["attack"], row["norm"], row["eps"])
    return next((each.split for each in recipe.attack if (each.type, each.norm, each.eps) == ball), "test")


def _words(what: tuple[Any, ...]) -> dict[str, Any]:
    _, data, kind, samples, more = what
    if kind == "clean":
        return {"data": data, "samples": samples, "rule": more}
    attack, norm, eps, protocol = more
    return {"data": data, "samples": samples, "attack": attack, "norm": norm, "eps": eps, "protocol": protocol}
