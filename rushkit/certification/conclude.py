"""From counts to what a certification reports: certificates, accuracies with intervals, the table, the checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rushkit.certificates import (
    Certificates,
    certify_counts,
    certify_means,
    rate,
    summarise,
)
from rushkit.certification.claim import Claim, assumptions, coverage, radius_grid
from rushkit.certification.contradictions import attacks_beside, contradictions
from rushkit.certification.counts import ImageCounts, gather_counts
from rushkit.certification.logged_counts import SEAL
from rushkit.certification.sequential import SequentialState
from rushkit.errors import UsageError
from rushkit.files import write_atomic
from rushkit.noises.additive import from_l1
from rushkit.recipe.schema import Recipe
from rushkit.rounding import as_asked, decimals_of, floor_radius
from rushkit.run.folder import Run

TABLE_FILE = "certificates.tsv"


def conclude(
    recipe: Recipe,
    claim: Claim,
    subject: dict[str, Any],
    records: Sequence[dict[str, Any]],
    seal: dict[str, Any],
    run: Run,
    source: str,
) -> dict[str, Any]:
    """Certify from the counts, and write results.json and the table of images.

    Args:
        recipe: Sections certify, data, noise and system.
        claim: What is certified.
        subject: What the counts are of.
        records: The lines of the log.
        seal: How many lines the log has, and the hash of the last.
        run: Takes the files.
        source: The checkpoint, or the run that the counts are from.

    Raises:
        UsageError: no image has all its draws.
    """
    settings = recipe.certify
    counts, done = gather_counts(records, claim.samples)
    facts: dict[str, Any] = {}
    if claim.mode == "sequential":
        certificates, facts = _sequential(claim, settings.radii, records)
    else:
        if claim.mode == "fixed":
            counts = counts.take(np.flatnonzero(done == claim.samples))
        if not len(counts.images):
            raise UsageError(
                f"no image has all {claim.samples} draws yet", "let the run finish with --resume, or ask for fewer"
            )
        certificates = exhaustive(claim, counts) if claim.mode == "splits" else estimate(claim, counts)
    radii = sorted(set(settings.radii)) or radius_grid(claim.reach)
    summary = summarise(certificates, counts.labels, radii)
    beside = attacks_beside(recipe, claim, subject["model"], subject["of"], counts, certificates)
    clashes = contradictions(beside)
    for clash in clashes:
        run.speaker.warn(clash)
    results = {
        "stage": "certify",
        "recipe": recipe.name,
        "source": source,
        "model": subject["model"],
        "data": f"{recipe.data.name}/{settings.split}",
        "noise": recipe.noise.model_dump(),
        "mode": claim.mode,
        "norm": claim.norm,
        "rule": claim.rule,
        "bound": claim.bound,
        "alpha": claim.alpha,
        "samples": claim.samples,
        "selection": 0 if claim.mode == "splits" else settings.selection,
        "two_class": claim.two_class,
        "images": len(counts.images),
        "smoothed": asdict(rate((counts.selection + counts.votes).argmax(axis=1) == counts.labels)),
        "accuracy": asdict(summary.accuracy),
        "abstained": asdict(summary.abstained),
        "average_radius": summary.average_radius,
        "average_radius_error": summary.average_radius_error if len(counts.images) > 1 else None,
        "certified": [
            {"radius": radius, **asdict(share)} for radius, share in zip(radii, summary.certified, strict=True)
        ],
        "reach": claim.reach,
        "limit": claim.limit,
        "covers": f"{coverage(claim)} {subject['size']}".rstrip(),
        "assumptions": assumptions(claim, subject["precision"], subject["warnings"]),
        "warnings": subject["warnings"],
        "empirical": beside,
        "checks": {"agree_with_attacks": not clashes, "messages": clashes},
        "draws": sum(record["drawn"] for record in records),
        "seconds": float(counts.seconds.sum()),
        SEAL: seal,
        **facts,
        "outcomes": {
            "images": counts.images.tolist(),
            "labels": counts.labels.tolist(),
            **{name: values.tolist() for name, values in vars(certificates).items()},
        },
    }
    results = run.write_results(results)
    if run.writes:
        write_atomic(run.path / TABLE_FILE, [image_table(counts, certificates, radii, settings.radii).encode()])
    return results


def estimate(claim: Claim, counts: ImageCounts) -> Certificates:
    """Certificates from a fixed number of draws, by the claim's rule and bound."""
    if claim.rule == "majority":
        return certify_counts(
            counts.selection,
            counts.votes,
            claim.noise,
            claim.norm,
            claim.dim,
            claim.alpha,
            claim.bound,  # type: ignore[arg-type]
            claim.two_class,
        )
    # The log has the sums of one class an image; the others are not looked at.
    sums, squares = (np.zeros(counts.selection.shape) for _ in range(2))
    rows, chosen = np.arange(len(counts.images)), counts.mean_class
    sums[rows, chosen], squares[rows, chosen] = counts.scores, counts.squares
    return certify_means(
        counts.selection_scores,
        sums,
        squares,
        claim.samples,
        claim.noise,
        claim.norm,
        claim.dim,
        claim.alpha,
        claim.bound,  # type: ignore[arg-type]
    )


def exhaustive(claim: Claim, counts: ImageCounts) -> Certificates:
    """Certificates from the votes over all splits: p is known, nobody abstains."""
    noise: Any = claim.noise
    radius = from_l1(noise.deterministic_radius(counts.selection), claim.norm, claim.dim)
    votes = np.sort(counts.selection, axis=1)
    return Certificates(
        predicted=counts.selection.argmax(axis=1),
        p_lower=votes[:, -1] / claim.samples,
        p_upper=votes[:, -2] / claim.samples,
        radius=radius,
    )


def _sequential(
    claim: Claim, radii: Sequence[float], records: Sequence[dict[str, Any]]
) -> tuple[Certificates, dict[str, Any]]:
    """Certificates of the tests, in the order of the images, and what the tests cost."""
    if not radii:
        raise UsageError("these counts are of sequential tests, which need radii", "give --radius R")
    state = SequentialState.replayed(claim, radii, records)
    order = np.argsort(state.images, kind="stable")
    found = state.certificates()
    facts = {
        "draws_used": {
            "mean": float(state.trials.mean()),
            "most": int(state.trials.max()),
            "images": state.trials[order].tolist(),
        },
        "undecided": state.open_ended,
    }
    return Certificates(*(values[order] for values in vars(found).values())), facts


def image_table(
    counts: ImageCounts, certificates: Certificates, radii: Sequence[float], tested: Sequence[float] = ()
) -> str:
    """Tab-separated lines in the columns of the field's scripts; −1 where it abstains.

    A tested radius is written as it was asked for, a computed one rounded down to at least as many decimals as
    ``radii`` have: read at one of these, the lines count as many images as results.json does.
    """
    decimals = max(3, *map(decimals_of, radii))
    lines = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"]
    columns: list[NDArray[Any]] = [
        counts.images, counts.labels, certificates.predicted, certificates.radius, counts.seconds,
    ]  # fmt: skip
    for index, label, predicted, radius, seconds in zip(*(column.tolist() for column in columns), strict=True):
        shown = as_asked(radius) if radius in tested else floor_radius(radius, decimals)
        row = (index, label, predicted, shown, int(predicted == label), timedelta(seconds=seconds))
        lines.append("\t".join(map(str, row)))
    return "\n".join(lines) + "\n"
