"""The options that pack saved images into an artifact, which others verify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.errors import UsageError
from rushkit.paths import expand_text
from rushkit.place import current_place

if TYPE_CHECKING:
    from rushkit.recipe.schema import Recipe
    from rushkit.results.attacks import Attacks
    from rushkit.robustness.jobs import Job
    from rushkit.run.asked import AttackAsked
    from rushkit.run.checkpoint import Checkpoint


@dataclass(frozen=True)
class Packing:
    """Whether an artifact is written, and what it holds."""

    artifact: Annotated[
        str | None,
        typer.Option("--artifact", metavar="FILE", help="Pack the saved images into one file that anybody can verify."),
    ] = None
    with_weights: Annotated[
        bool, typer.Option("--with-weights", help="Put the model's weights into that file, too.")
    ] = False

    def check(self) -> None:
        """Raise UsageError for weights without a file, and for a file that cannot be written."""
        if self.artifact is None:
            if self.with_weights:
                raise UsageError("--with-weights without --artifact", "for example --artifact claim.rushkit")
            return
        from rushkit.claims.of_run import check_artifact_path

        check_artifact_path(self.path)

    @property
    def path(self) -> Path:
        """The file, as an absolute path."""
        return Path(expand_text(self.artifact or "")).absolute()

    def asked(self, asked: AttackAsked) -> AttackAsked:
        """Return the options of an attack with these; what is packed is saved."""
        if self.artifact is None:
            return asked
        packed = {"save": True, "artifact": str(self.path), "with_weights": self.with_weights or None}
        return asked.model_copy(update=packed)

    def check_jobs(self, jobs: Sequence[Job], model: Checkpoint) -> None:
        """Raise UsageError unless one of the attacks that will run is the one to pack, and its model can be packed."""
        if self.artifact is None:
            return
        from rushkit.claims.of_run import row_to_pack
        from rushkit.claims.pack import check_weights

        check_weights(model, self.with_weights)

        if any(job.plan.target is not None or job.section.smallest for job in jobs):
            raise UsageError(
                "--artifact packs images of attacks on the label within one ball", "leave --target and --smallest out"
            )
        row_to_pack([job.plan.label for job in jobs])


def pack_asked(asked: AttackAsked, results: Attacks, recipe: Recipe, model: Checkpoint) -> None:
    """Pack an attack that has just finished, if that was asked for, by this command or by the one that it resumes.

    Where an attack failed, the one that was to be packed may be missing, and nothing is.
    """
    if asked.artifact and not results.failed and not current_place().rank:
        from rushkit.claims.of_run import pack_attack

        pack_attack(results, recipe, model, Path(asked.artifact), bool(asked.with_weights))
