"""Resume a stopped certification."""

from __future__ import annotations

from pathlib import Path

from rushkit.certification.certify import certify, recertify
from rushkit.recipe.schema import Recipe
from rushkit.results.certification import Certification
from rushkit.run.asked import CertifyAsked
from rushkit.run.folder import Run
from rushkit.setup.resume import measured_checkpoint


def resume_certification(recipe: Recipe, run: Run) -> Certification:
    """Finish a stopped run of ``certify`` or ``recertify``, and return its results."""
    asked = CertifyAsked.of(run)
    if asked.counts is None:
        return certify(recipe, measured_checkpoint(recipe, run), run)
    return recertify(recipe, Path(asked.counts), None, run)
