"""Whether a training step fits into the machine's memory, and what is done where it does not."""

from __future__ import annotations

from rushkit.distributed import ranks
from rushkit.errors import UsageError
from rushkit.image_size import sides
from rushkit.models.passes import memory_an_image
from rushkit.models.recompute import recompute_blocks, repeated_blocks
from rushkit.run.folder import Run
from rushkit.system import Machine, device_memory
from rushkit.training.job import TrainingJob

# Of the device's memory, what the activations of a step may take.
_SHARE = {"cpu": 1 / 2, "cuda": 3 / 4, "mps": 1 / 2}


def recompute_where_needed(job: TrainingJob, run: Run, machine: Machine) -> bool:
    """Let the network's blocks recompute their activations where the recipe or the machine's memory asks for it.

    Args:
        job: The network and the memory, on the machine's device; changed in place.
        run: Is told what is done.
        machine: Whose memory counts.

    Returns:
        Whether blocks recompute; then nothing must be compiled.

    Raises:
        UsageError: ``system.recompute`` is ``on``, and the network has no repeated blocks or is to be compiled.
    """
    if not will_recompute(job, machine):
        return False
    asked, needed = job.recipe.system.recompute, step_memory(job, machine)
    count = recompute_blocks(job.network)
    for branch in job.memory.children():
        recompute_blocks(branch)
    run.speaker.say(
        f"the activations of {count} blocks are computed again in the backward pass (system.recompute = {asked}): "
        f"kept, those of a step take about {needed / 2**30:.1f} GiB"
    )
    return True


def will_recompute(job: TrainingJob, machine: Machine) -> bool:
    """Return whether ``recompute_where_needed`` lets blocks recompute. Changes nothing, and raises what that does."""
    asked = job.recipe.system.recompute
    if asked == "off" or (asked == "auto" and machine.compile == "on"):
        return False
    if asked == "auto" and step_memory(job, machine) <= device_memory(machine.device) * _SHARE[machine.device.type]:
        return False
    if asked == "on" and machine.compile == "on":
        raise UsageError("a compiled network recomputes nothing", "--set system.compile=off, or system.recompute=off")
    if not repeated_blocks(job.network):
        if asked == "auto":
            return False
        raise UsageError(
            f"backbone {job.recipe.backbone.name!r} has no repeated blocks to recompute", "--set system.recompute=off"
        )
    return True


def step_memory(job: TrainingJob, machine: Machine) -> int:
    """Estimate the bytes of activations that a step keeps of this rank's part of a batch."""
    images = -(-job.settings.batch_size // ranks.world())
    return job.kept_passes * images * memory_an_image(job.network, (job.channels, *sides(job.image_size)), machine)
