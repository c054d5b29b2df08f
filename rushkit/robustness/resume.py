"""What a resumed attack goes on with."""

from __future__ import annotations

from rushkit.run.asked import AttackAsked
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.setup.resume import parent_checkpoint


def resume_attack(
    run: Run, save: bool = False, transfer: Checkpoint | None = None
) -> tuple[Checkpoint, AttackAsked, Checkpoint | None]:
    """Return the model, the settings and the other model that an attack was started with.

    Args:
        run: The run, open.
        save: Keep the adversarial images from now on, whatever was asked for then.
        transfer: Query this model about the images in place of the one that was named then.

    Raises:
        CheckpointError: a checkpoint of the run is gone; the run fails.
    """
    checkpoint, asked = parent_checkpoint(run), AttackAsked.of(run)
    if transfer is None and asked.transfer_to:
        transfer = parent_checkpoint(run, "transfer_to")
    return checkpoint, asked.model_copy(update={"save": asked.save or save}), transfer
