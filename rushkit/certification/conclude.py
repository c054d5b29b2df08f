"""Turn counts into the results of a certification: certificates, accuracies with intervals, the table, the checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rushkit.certificates import Certificates, Summary, rate, summarise
from rushkit.certification.caveats import assumptions, coverage
from rushkit.certification.contradictions import Certified, attacks_beside, contradictions
from rushkit.certification.counts import ImageCounts
from rushkit.certification.logged_counts import LoggedCounts
from rushkit.certification.procedure import Conclusion, Procedure
from rushkit.certification.together import strict_certificates
from rushkit.files import write_atomic
from rushkit.noises import theorem_of
from rushkit.recipe.schema import Recipe
from rushkit.results.certification import (
    AttackAgreement,
    Certification,
    CertificationOutcomes,
    CertifiedRate,
    EmpiricalRow,
    Rate,
)
from rushkit.results.together import Together
from rushkit.rounding import as_asked, decimals_of, floor_radius
from rushkit.run.folder import Run
from rushkit.setup.components import data_name

TABLE_FILE = "certificates.tsv"


def conclude(recipe: Recipe, procedure: Procedure, logged: LoggedCounts, run: Run, source: str) -> Certification:
    """Certify from the counts, and write results.json and the table of images.

    Args:
        recipe: The sections certify, data, noise and system are used.
        procedure: The procedure that made the counts, and that certifies from them.
        logged: The counts.
        run: The run that the files are written to.
        source: The checkpoint, or the run that the counts come from.

    Raises:
        UsageError: no image has all its draws.
    """
    conclusion = procedure.conclude(logged.lines)
    beside = attacks_beside(recipe, logged.subject.model, Certified.of(procedure, conclusion))
    for clash in contradictions(beside):
        run.speaker.warn(clash)
    results = run.write_results(certification_of(recipe, procedure, logged, conclusion, beside, source))
    if run.writes:
        radii = [row.radius for row in results.certified]
        table = image_table(conclusion.counts, conclusion.certificates, radii, recipe.certify.radii)
        write_atomic(run.path / TABLE_FILE, [table.encode()])
    return results


def certification_of(
    recipe: Recipe,
    procedure: Procedure,
    logged: LoggedCounts,
    conclusion: Conclusion,
    beside: list[EmpiricalRow],
    source: str,
) -> Certification:
    """Return the results of a certification; all but what stands beside it follows from the counts.

    Args:
        recipe: As for ``conclude``.
        procedure: As for ``conclude``.
        logged: The counts.
        conclusion: What the procedure concludes from them.
        beside: What attacks on the same images left.
        source: The checkpoint, or the run that the counts come from.
    """
    claim, subject, settings = procedure.claim, logged.subject, recipe.certify
    counts, certificates = conclusion.counts, conclusion.certificates
    radii = sorted(set(settings.radii)) or radius_grid(claim.reach)
    summary = summarise(certificates, counts.labels, radii)
    together, strict = strict_certificates(procedure, logged.lines, conclusion)
    clashes = contradictions(beside)
    warnings = [str(warning) for warning in subject.warnings]
    return Certification(
        recipe=recipe.name,
        source=source,
        model=subject.model,
        data=f"{data_name(recipe)}/{settings.split}",
        noise=recipe.noise,
        precision=subject.precision,
        mode=procedure.mode,
        norm=claim.norm,
        rule=claim.rule,
        bound=claim.bound,
        theorem=theorem_of(claim.noise, claim.norm),
        alpha=claim.alpha,
        samples=claim.samples,
        selection=procedure.selection,
        two_class=claim.two_class,
        images=len(counts.images),
        smoothed=_rate((counts.selection + counts.votes).argmax(axis=1) == counts.labels),
        accuracy=Rate(**asdict(summary.accuracy)),
        abstained=Rate(**asdict(summary.abstained)),
        average_radius=summary.average_radius,
        average_radius_error=summary.average_radius_error if len(counts.images) > 1 else None,
        certified=_certified_rates(summary, summarise(strict, counts.labels, radii), together),
        together=together,
        reach=claim.reach,
        limit=claim.limit,
        covers=f"{coverage(claim)} {subject.size}".rstrip(),
        assumptions=assumptions(claim, subject.precision, warnings),
        warnings=subject.warnings,
        empirical=beside,
        checks=AttackAgreement(agree_with_attacks=not clashes, messages=clashes),
        draws=sum(line.drawn for line in logged.lines),
        seconds=float(counts.seconds.sum()),
        counts=logged.seal,
        draws_used=conclusion.draws_used,
        undecided=conclusion.undecided,
        outcomes=_outcomes(counts, certificates),
    )


def _rate(flags: NDArray[np.bool_]) -> Rate:
    return Rate(**asdict(rate(flags)))


def _certified_rates(summary: Summary, strict: Summary, together: Together) -> list[CertifiedRate]:
    """Return the row of each radius, from the certificates at alpha and those at the alpha of the strict ones."""
    rows = []
    for radius, share, strict_share in zip(summary.radii, summary.certified, strict.certified, strict=True):
        proved = together.proved(share.count, strict_share.count)
        rows.append(
            CertifiedRate(
                radius=radius,
                **asdict(share),
                strict=strict_share.count,
                proved=proved,
                proved_value=proved / share.total,
            )
        )
    return rows


def _outcomes(counts: ImageCounts, certificates: Certificates) -> CertificationOutcomes:
    return CertificationOutcomes(
        images=counts.images.tolist(),
        labels=counts.labels.tolist(),
        **{name: values.tolist() for name, values in vars(certificates).items()},
    )


def radius_grid(limit: float) -> list[float]:
    """Return about ten round radii from 0 to ``limit``, for the table of certified accuracies."""
    if limit <= 0.0:
        return [0.0]
    magnitude = 10.0 ** math.floor(math.log10(limit / 10))
    step = next(factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * magnitude * 10 >= limit) * magnitude
    # Rounded so that 0.3 is written 0.3.
    return [float(f"{radius:.6g}") for radius in np.arange(0.0, limit * (1 + 1e-9), step)]


def image_table(
    counts: ImageCounts, certificates: Certificates, radii: Sequence[float], tested: Sequence[float] = ()
) -> str:
    """Return tab-separated lines in the columns of the usual scripts in the field, with −1 for an abstention.

    A tested radius is written as the user gave it; a computed one is rounded down to at least as many decimals as
    ``radii`` have, so that at each of these radii the table certifies as many images as results.json.
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
