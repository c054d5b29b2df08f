"""Report the sizes, steps and memory of a training run without training."""

from __future__ import annotations

import torch

from rushkit.models.network import macs
from rushkit.setup.start import machine_of, purpose_of
from rushkit.training.job import TrainingJob


def dry_run(job: TrainingJob) -> dict[str, str]:
    """Return the sizes of a training run: name -> value in words.

    Args:
        job: The job, ready to start.
    """
    size = job.image_size
    views = job.settings.batch_size * (2 if job.stage == "pretrain" else 1)
    numbers, trainable = (sum(part.numel() for part in parts) for parts in (job.parameters, job.trained))
    return {
        "images": job.images,
        "steps": f"{job.steps} ({job.settings.epochs} epochs of {job.steps_per_epoch})",
        "input": f"{views} x 3 x {size} x {size} a step",
        "parameters": f"{numbers:,}, of which {trainable:,} train",
        "arithmetic": f"{macs(job.network.encoder, size) / 1e6:.1f} MMAC a view",
        "memory": f"about {memory_estimate(job, size) / 2**30:.1f} GiB for a step",
        "machine": str(machine_of(job.recipe, purpose_of(job.stage))),
    }


def memory_estimate(job: TrainingJob, size: int) -> int:
    """Estimate the bytes that a training step needs.

    They hold weights, gradients, momentum, and the layer outputs that are kept for the backward pass.

    Args:
        job: The job.
        size: Side of the images, in pixels.
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
        job.network.encoder.eval()(torch.zeros(1, 3, size, size, device=device))
    for hook in hooks:
        hook.remove()
    images = job.kept_passes * job.settings.batch_size
    weights, trained = (sum(part.numel() for part in parts) for parts in (job.parameters, job.trained))
    return 4 * (sum(sizes) * images + weights + 2 * trained) + job.split.images.numel()
