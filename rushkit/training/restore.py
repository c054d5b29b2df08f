"""Resume training from the last checkpoint of its run, which must have the same recipe and training images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rushkit.errors import CheckpointError
from rushkit.recipe import toml
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.optimizer_state import restore_optimizer
from rushkit.setup.model import NOISE_DRAWN, recipe_of
from rushkit.setup.networks import load_network
from rushkit.training.average import LIVE
from rushkit.training.batch import Draws
from rushkit.training.job import MEMORY, TrainingJob


def restore(job: TrainingJob, run: Run, optimizer: torch.optim.Optimizer, draws: Draws) -> int:
    """Load the run's last checkpoint into network and optimizer, and return the next step; 0 without a checkpoint.

    A run that extends another training has that one's last checkpoint until it has its own. ``draws`` is told whether
    noise was drawn before it.

    Raises:
        CheckpointError: it was made from other images, another recipe, or with another number of steps per epoch.
    """
    own = run.checkpoints.load_latest()
    saved = own or job.extends
    step = 0 if saved is None else int(saved.meta["step"])
    run.metrics.keep_until(step)
    if saved is None:
        return 0
    before = saved.meta.get("steps_per_epoch")
    if before != job.steps_per_epoch:
        raise CheckpointError(
            f"{saved.path} was made with {before} steps an epoch, this is {job.steps_per_epoch}",
            "resume with the data and the batch size that the run was started with",
        )
    _check_recipe(job, saved, longer=own is None)
    if saved.meta.get("content") != job.fingerprint:
        raise CheckpointError(
            f"the images of {job.origins} are not those that {saved.path} was trained on",
            "put back the data as it was, or start a new run",
        )
    load_network(job.network, saved.tensors)
    if job.average is not None:
        job.average.restore(_stored(saved, LIVE, job.average.live_weights(), "the live weights"))
    _restore_memory(job, saved)
    restore_optimizer(optimizer, saved.tensors, saved.meta["optimizer"])
    draws.noise_drawn = saved.meta.get(NOISE_DRAWN) is True
    went = "resumed" if own is not None else "going on"
    run.speaker.say(f"{went} at step {step} of {job.steps} from {saved.path.name}")
    return step


def _restore_memory(job: TrainingJob, saved: Checkpoint) -> None:
    """Load what the objective remembers. Raises CheckpointError unless all names and shapes match."""
    own = job.own_memory()
    stored = _stored(saved, MEMORY, own, "what the objective remembers")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(stored[name])


def _stored(saved: Checkpoint, prefix: str, own: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Return a checkpoint's tensors with a prefix. Raises CheckpointError unless all names and shapes are ``own``'s."""
    stored = {name.removeprefix(prefix): tensor for name, tensor in saved.tensors.items() if name.startswith(prefix)}
    same = {name: tensor.shape for name, tensor in own.items()} == {
        name: tensor.shape for name, tensor in stored.items()
    }
    if not same:
        raise CheckpointError(
            f"{what} in {saved.path} does not fit this training",
            "resume with the version of the objective that the run was started with",
        )
    return stored


def _check_recipe(job: TrainingJob, saved: Checkpoint, longer: bool) -> None:
    """Raise CheckpointError if a checkpoint's recipe differs in a key that affects the weights, or which are best.

    ``longer`` allows another number of epochs.
    """
    before, now = _outcome_depends_on(recipe_of(saved), job.stage), _outcome_depends_on(job.recipe, job.stage)
    free = {f"{job.stage}.epochs"} if longer else set()
    for key in sorted((before.keys() | now.keys()) - free):
        if before.get(key) != now.get(key):
            raise CheckpointError(
                f"{saved.path} was made with {key} = {before.get(key)}, this is {now.get(key)}",
                "resume with the recipe that the run was started with, or start a new run",
            )


def _outcome_depends_on(recipe: Recipe, stage: str) -> dict[str, object]:
    """Return the keys of a recipe that affect a stage's weights or its best checkpoint, with their values."""
    parts = ("data", "backbone", "projector", "noise", stage)
    free = {f"{stage}.{key}" for key in ("save_every", "keep", "knn.every", "validation.every")}
    flat = toml.flatten(recipe.resolved())
    if recipe.finetune.validation.choose == "clean":
        # Accuracies under different attacks do not compare, but here they choose nothing.
        attack = f"{stage}.validation."
        free |= {key for key in flat if key.startswith(attack) and key not in (f"{attack}choose", f"{attack}patience")}
    keys: dict[str, object] = {
        key: value for key, value in flat.items() if key.partition(".")[0] in parts and key not in free
    }
    return keys | {"system.seed": recipe.system.seed}
