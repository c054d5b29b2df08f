"""Report the sizes, steps and memory of a training run without training."""

from __future__ import annotations

import torch

from rushkit.data.decoding import OnDemand
from rushkit.distributed import ranks
from rushkit.image_size import ImageSize, sides
from rushkit.models.network import macs
from rushkit.results.dry_run import DryRun
from rushkit.rounding import counted
from rushkit.system import Machine
from rushkit.training.job import TrainingJob
from rushkit.training.loop import check_ranks
from rushkit.training.recomputation import will_recompute


def dry_run(job: TrainingJob, machine: Machine) -> DryRun:
    """Check what the loop checks before its first step, and return the sizes of the run.

    Args:
        job: The job, ready to start.
        machine: Device and precision.

    Raises:
        UsageError: the batch does not divide over the ranks, or the network cannot be compiled or recompute as asked.
    """
    check_ranks(job)
    recomputes = will_recompute(job, machine)
    compiles = not recomputes and machine.compiles
    size = job.image_size
    height, width = sides(size)
    views = job.settings.batch_size * (2 if job.stage == "pretrain" else 1)
    of_a_rank = " of a rank" if ranks.world() > 1 else ""
    numbers, trainable = (sum(part.numel() for part in parts) for parts in (job.parameters, job.trained))
    return DryRun(
        images=job.images,
        steps=f"{job.steps} ({counted(job.settings.epochs, 'epoch')} of {job.steps_per_epoch})",
        input=f"{views} x {job.channels} x {height} x {width} a step",
        parameters=f"{numbers:,}, of which {trainable:,} train",
        arithmetic=f"{macs(job.network.encoder, size, job.channels) / 1e6:.1f} MMAC a view",
        memory=f"about {memory_estimate(job, size) / 2**30:.1f} GiB for a step{of_a_rank}",
        machine=f"{machine}{', compiled' if compiles else ''}{', blocks recompute' if recomputes else ''}",
    )


def memory_estimate(job: TrainingJob, size: ImageSize) -> int:
    """Estimate the bytes that a training step needs on each rank.

    They hold weights, gradients, momentum, and the layer outputs that are kept for the backward pass.

    Args:
        job: The job.
        size: Size of the images, in pixels.
    """
    sizes: list[int] = []
    hooks = [
        module.register_forward_hook(
            lambda _, __, out: sizes.append(out.numel()) if isinstance(out, torch.Tensor) else None
        )
        for module in job.network.encoder.modules()
        if not list(module.children())
    ]
    device = next(job.network.parameters()).device
    with torch.no_grad():
        job.network.encoder.eval()(torch.zeros(1, job.channels, *sides(size), device=device))
    for hook in hooks:
        hook.remove()
    images = job.kept_passes * -(-job.settings.batch_size // ranks.world())
    weights, trained = (sum(part.numel() for part in parts) for parts in (job.parameters, job.trained))
    stored = 0 if isinstance(job.split.images, OnDemand) else job.split.images.numel()
    return 4 * (sum(sizes) * images + weights + 2 * trained) + stored
