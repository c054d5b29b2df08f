"""Empirical robust accuracy beside certified: what attacks found on the same model, images and norm.

An image that is certified at a radius cannot lose its class to a perturbation of that size. An attack can only show
less robustness than there is said to be where one of the two is wrong, or where its vote has too few draws.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rushkit.certificates import Certificates
from rushkit.errors import RushkitError
from rushkit.recipe.load import read_recipe
from rushkit.recipe.schema import Certify, Recipe
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.find import RunInfo, find_runs
from rushkit.run.folder import RECIPE_FILE
from rushkit.stages.counts import ImageCounts, chosen_indices

# Fewer draws than this are another classifier: one noisy pass is right about as often as p says.
FEWEST_VOTES = 16


def attacks_beside(
    recipe: Recipe, model: str, of: int, counts: ImageCounts, certificates: Certificates
) -> list[dict[str, Any]]:
    """Each finished attack of the same model, noise, images and norm, with what is certified at its radius.

    Args:
        recipe: That of the certification.
        model: Hash of the checkpoint.
        of: How many images the split has.
        counts: The images and labels.
        certificates: Theirs.

    Returns:
        For each attack: run, protocol, eps, m, the images that both looked at, its accuracy there by majority vote,
        the certified accuracy there, which certified images it broke in most of its votes, and whether that is a
        contradiction: fewer right under attack than certified. None of the latter with fewer than 16 draws a vote.
    """
    right = (certificates.predicted == counts.labels) & (certificates.predicted >= 0)
    radius = dict(zip(counts.images.tolist(), np.where(right, certificates.radius, -1.0).tolist(), strict=True))
    rows: list[dict[str, Any]] = []
    hashes: dict[str, str] = {}
    for run in find_runs(recipe.system.runs_dir):
        if run.verb == "attack" and run.status == "finished":
            parent = str(run.data.get("parent"))
            # Many attacks are of one model.
            hashes[parent] = hashes.get(parent) or _hash(parent)
            rows += _rows_of(run, recipe, of, radius) if hashes[parent] == model else []
    return rows


def contradictions(rows: list[dict[str, Any]]) -> list[str]:
    """One sentence for each attack that shows less than what is certified."""
    return [
        f"{row['certified']} of {row['images']} images are certified at {row['norm']} {row['eps']:.4g}, but only "
        f"{row['empirical']:.4g} are right under {row['attack']} ({row['protocol']}, m = {row['samples']}) of "
        f"{row['run']}: the certificate or the attack's vote is wrong; look at images {row['broken']}"
        for row in rows
        if row["contradicts"]
    ]


def _rows_of(run: RunInfo, recipe: Recipe, of: int, radius: dict[int, float]) -> list[dict[str, Any]]:
    results = run.results() or {}
    try:
        theirs = read_recipe((run.path / RECIPE_FILE).read_text(encoding="utf-8"), str(run.path))
    except (OSError, RushkitError):
        return []
    if theirs.data != recipe.data or theirs.noise != recipe.noise:
        return []
    rows = []
    for row in results.get("attacks", []):
        section = next(
            (each for each in theirs.attack if (each.type, each.norm, each.eps) == _ball(row)),
            None,
        )
        if section is None or section.split != recipe.certify.split or row["norm"] != recipe.certify.norm:
            continue
        attacked = _attacked(of, len(row["outcomes"]["images"]))
        common = [(place, index) for place, index in enumerate(attacked) if index in radius]
        if common:
            rows.append(_row(run.path, row, common, radius))
    return rows


def _row(path: Path, row: dict[str, Any], common: list[tuple[int, int]], radius: dict[int, float]) -> dict[str, Any]:
    votes = row["outcomes"]["right"]["majority"]
    share = {index: votes[place] / row["votes"] for place, index in common}
    certified = [index for _, index in common if radius[index] >= row["eps"]]
    empirical = sum(share.values())
    return {
        "run": str(path),
        **{key: row[key] for key in ("attack", "protocol", "norm", "eps", "samples")},
        "images": len(common),
        "empirical": empirical,
        "certified": len(certified),
        "broken": [index for index in certified if share[index] < 0.5],
        "contradicts": row["samples"] >= FEWEST_VOTES and len(certified) > empirical,
    }


def _attacked(of: int, count: int) -> list[int]:
    """Indices in the split of the images that an attack with this limit looked at, in its order."""
    return chosen_indices(of, Certify(limit=count), ordered=False).tolist()


def _ball(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["attack"], row["norm"], row["eps"]


def _hash(checkpoint: str) -> str:
    try:
        return load_checkpoint(checkpoint, verify=False).hash
    except RushkitError:
        # The model is gone, and what was measured of it says nothing here.
        return "gone"
