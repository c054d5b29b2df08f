"""Find the models and the settings of a resumed attack."""

from __future__ import annotations

from rushkit.recipe.schema import Recipe
from rushkit.run.asked import AttackAsked
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.setup.resume import measured_checkpoint, parent_checkpoint


def resume_attack(
    recipe: Recipe, run: Run, save: bool = False, transfer: Checkpoint | None = None
) -> tuple[Checkpoint, AttackAsked, Checkpoint | None]:
    """Return the model, the settings and the other model that an attack was started with.

    Args:
        recipe: The recipe of the run.
        run: The open run.
        save: Whether to keep the adversarial images from now on, even if the first command did not ask for it.
        transfer: The other model to query, in place of the one that the first command named.

    Raises:
        CheckpointError: a checkpoint of the run is gone; the run is marked as failed.
    """
    checkpoint, asked = measured_checkpoint(recipe, run), AttackAsked.of(run)
    if transfer is None and asked.transfer_to:
        transfer = parent_checkpoint(run, "transfer_to")
    return checkpoint, asked.model_copy(update={"save": asked.save or save}), transfer
