"""The training loop that both training stages share: exact to resume, stopped by signals, guarded against NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rushkit.data.memory import Split
from rushkit.distributed import ranks
from rushkit.distributed.share import Share, share_of
from rushkit.errors import CheckpointError, Interrupted, NumericsError, UsageError, shell_line
from rushkit.interrupt import uninterrupted
from rushkit.models.draws import global_draws
from rushkit.models.network import Network
from rushkit.noises import Noise
from rushkit.objectives import Objective
from rushkit.recipe import toml
from rushkit.recipe.load import read_recipe
from rushkit.recipe.schema import Optimizer, Schedule, Training
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.run.optimizer_state import optimizer_tensors, restore_optimizer
from rushkit.run.progress import figure
from rushkit.run.signals import graceful_stop
from rushkit.setup.components import load_network
from rushkit.setup.model import recipe_of
from rushkit.system import Machine, generator

# Losses are read back from the device this often: reading each one would make the device wait for us.
_STEPS_PER_READING = 20


@dataclass(frozen=True)
class TrainingJob:
    """Everything that the loop needs to know.

    Attributes:
        network: On its device; the parameters that require gradients train.
        objective: Gives inputs and loss.
        split: Training images.
        settings: The recipe's section of the stage.
        views: From uint8 images to float views.
        noise: The smoothing distribution.
        drop_last: Whether an incomplete last batch of an epoch is left out; one of a single image always is.
        set_modes: Puts the network into the stage's training mode; called before each epoch.
        meta: What the checkpoints say about the network.
        after_epoch: Called with the number of epochs done; returns figures for the metrics.
        best_by: The one of these figures whose highest value makes the best checkpoint; none is the best without.

    Raises:
        UsageError: the batch is larger than the data set.
    """

    network: Network
    objective: Objective
    split: Split
    settings: Training
    views: Callable[[Tensor, torch.Generator], Tensor]
    noise: Noise
    drop_last: bool
    set_modes: Callable[[], None]
    meta: dict[str, Any]
    after_epoch: Callable[[int], dict[str, Any]] = lambda _: {}
    best_by: str | None = None

    def __post_init__(self) -> None:
        if self.settings.batch_size > len(self.split):
            raise UsageError(
                f"a batch of {self.settings.batch_size} is larger than {self.split.name} with {len(self.split)} images",
                f"for example --set {self.objective.stage}.batch_size={max(2, len(self.split) // 4)}",
            )

    def with_after_epoch(self, after_epoch: Callable[[int], dict[str, Any]], best_by: str | None = None) -> TrainingJob:
        """The same job with a look at the network after each epoch, which may say which checkpoint is the best."""
        return replace(self, after_epoch=after_epoch, best_by=best_by)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        n, batch = len(self.split), self.settings.batch_size
        # BatchNorm can make nothing of a single image.
        return n // batch if self.drop_last else n // batch + (n % batch > 1)

    @property
    def steps(self) -> int:
        """Batches in all epochs."""
        return self.steps_per_epoch * self.settings.epochs


def train(job: TrainingJob, run: Run, machine: Machine, seed: int) -> dict[str, Any]:
    """Train from the run's last checkpoint, or from the start, to the end.

    Every draw is from a generator of (seed, purpose, epoch, step): a run that was stopped anywhere and resumed ends
    with the same weights, bit for bit on a CPU. Several ranks split each batch; losses and gradients are those of the
    whole batch, so a run may go on with another number of ranks. A model that draws, as with dropout, does so from
    torch's global generators, which are seeded for each step and rank and put back after it.

    Args:
        job: What to train.
        run: Takes metrics and checkpoints.
        machine: Device and precision.
        seed: Of the order of the images and of views and noise.

    Returns:
        The figures of the last epoch.

    Raises:
        UsageError: the batch does not divide over the ranks in pre-training.
        NumericsError: the loss is NaN or infinite; the last checkpoint stays.
        Interrupted: a signal asked to stop; everything is saved.
    """
    settings, network = job.settings, job.network
    if job.drop_last and settings.batch_size % ranks.world():
        raise UsageError(
            f"a batch of {settings.batch_size} does not divide over {ranks.world()} ranks",
            f"for example --set {job.objective.stage}.batch_size="
            f"{max(1, settings.batch_size // ranks.world()) * ranks.world()}",
        )
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(settings.optimizer, parameters, machine.device)
    images, labels = resident(job.split, machine.device)
    start = restore(job, run, optimizer)
    model = machine.compiled(ranks.parallel(network, machine.device))
    if machine.compiles:
        run.speaker.say(
            "compiling the network: the first steps take a minute or so; --set system.compile=off does without"
        )
    ledger = _Ledger(run, job.objective.stage, job.best_by)
    figures = ledger.restore(start)
    stopping = False
    interval = settings.steps_between_checkpoints(job.steps_per_epoch)
    run.checkpoints.keep = settings.keep

    def save(step: int, best: bool = False) -> None:
        with uninterrupted():
            ledger.read()
            tensors, state = optimizer_tensors(optimizer)
            epoch = step // job.steps_per_epoch
            meta = job.meta | {"step": step, "epoch": epoch, "steps_per_epoch": job.steps_per_epoch, "optimizer": state}
            run.save_checkpoint(step, {**network.tensors(), **tensors}, meta, best)

    label = job.objective.stage
    with (
        graceful_stop(lambda name: run.speaker.say(f"{name}: saving, then stopping")) as stop,
        run.speaker.progress(job.steps, label, "steps", start=start) as progress,
    ):
        for epoch in range(start // job.steps_per_epoch, settings.epochs):
            job.set_modes()
            order = torch.randperm(len(job.split), generator=generator(seed, f"{label}-order", epoch))
            first = start % job.steps_per_epoch if epoch == start // job.steps_per_epoch else 0
            for index in range(first, job.steps_per_epoch):
                step = epoch * job.steps_per_epoch + index
                chosen = order[index * settings.batch_size : (index + 1) * settings.batch_size]
                share = share_of(len(chosen))
                chosen = chosen[share.rows].to(images.device)
                batch = images[chosen].to(machine.device, non_blocking=True)
                batch_labels = None if labels is None else labels[chosen].to(machine.device, non_blocking=True)
                source = generator(seed, f"{label}-draws", epoch, index, device=machine.device)
                rate = learning_rate(settings, step, job.steps_per_epoch)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                with global_draws(seed, f"{label}-model", epoch, index, ranks.rank(), device=machine.device):
                    loss = train_step(job, model, batch, batch_labels, share, source, optimizer, machine)
                ledger.add(step, epoch, rate, loss)
                progress.advance(1, loss=loss, epoch=epoch + 1)
                done = step + 1
                stopping = ranks.any_rank(stop.requested)
                if stopping and done % job.steps_per_epoch:
                    save(done)
                    ranks.wait()
                    raise _stopped(job, run, done)
                if done % interval == 0 and done % job.steps_per_epoch:
                    save(done)
            ledger.read()
            figures = {"loss": ledger.mean(epoch), **job.after_epoch(epoch + 1)}
            done = (epoch + 1) * job.steps_per_epoch
            run.metrics.append(step=done, epoch=epoch + 1, kind="epoch", **figures)
            shown = {key: value for key, value in figures.items() if isinstance(value, float)}
            words = ", ".join(f"{key} {figure(key, value)}" for key, value in shown.items())
            run.speaker.detail(f"epoch {epoch + 1}/{settings.epochs}: {words}")
            progress.row(epoch=epoch + 1, **shown, lr=rate)
            best = ledger.is_best(figures)
            if best or stopping or done % interval == 0 or done == job.steps:
                save(done, best)
            if stopping:
                ranks.wait()
                raise _stopped(job, run, done)
    return figures


def _stopped(job: TrainingJob, run: Run, done: int) -> Interrupted:
    return Interrupted(
        f"stopped at step {done} of {job.steps}; everything is saved in {run.path}",
        f"go on with: {shell_line('rushkit', job.objective.stage, '--resume', '--run', run.path)}",
    )


def train_step(
    job: TrainingJob,
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor | None,
    share: Share,
    source: torch.Generator,
    optimizer: torch.optim.Optimizer,
    machine: Machine,
) -> Tensor:
    """One step on this rank's share of a batch.

    Args:
        job: The objective, and what it gets.
        model: The job's network, or what ``ranks.parallel`` and the compiler made of it.
        images: (n, C, H, W) uint8, the share's.
        labels: (n,) of the share, or None.
        share: Which rows of the batch they are.
        source: Of the whole batch's draws.
        optimizer: Over the network's parameters.
        machine: Device and precision.

    Returns:
        The share's part of the loss: its mean over the ranks is the batch's. A detached scalar on the device.
    """
    inputs = job.objective.inputs(images, share.views(job.views), share.noise(job.noise), source)
    with machine.autocast():
        outputs = model(inputs.contiguous(memory_format=torch.channels_last))
        # A rank without images still takes its part in every collective of the backward pass.
        loss = job.objective.loss(outputs, labels) if share.count else outputs.float().sum()
    if share.weight != 1:
        loss = loss * share.weight
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def build_optimizer(section: Optimizer, parameters: list[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """The optimizer of a recipe over these parameters, fused where the device has such a kernel."""
    fused = device.type in ("cpu", "cuda")
    if section.name == "adamw":
        return torch.optim.AdamW(parameters, lr=section.lr, weight_decay=section.weight_decay, fused=fused)
    return torch.optim.SGD(
        parameters,
        lr=section.lr,
        momentum=section.momentum,
        weight_decay=section.weight_decay,
        nesterov=section.nesterov,
        fused=fused,
    )


def learning_rate(settings: Training, step: int, steps_per_epoch: int) -> float:
    """The rate of a step (from 0): linear warm-up, then the schedule.

    A cosine falls from ``lr`` at the first step to ``min_lr`` at the last one; ``per = "epoch"`` keeps it within each.
    """
    schedule, peak = settings.schedule, settings.optimizer.lr
    unit = 1 if schedule.per == "step" else steps_per_epoch
    now, total = step // unit, settings.epochs * steps_per_epoch // unit
    warmup = schedule.warmup_epochs * steps_per_epoch // unit
    if now < warmup:
        return peak * (now + 1) / warmup
    if schedule.name == "constant":
        return peak
    return cosine(now - warmup, total - warmup, peak, schedule)


def cosine(now: int, total: int, peak: float, schedule: Schedule) -> float:
    """Half a cosine from ``peak`` at 0 to ``min_lr`` at ``total - 1``."""
    low = min(schedule.min_lr, peak)
    share = now / max(1, total - 1)
    return low + (peak - low) * (1 + math.cos(math.pi * share)) / 2


def resident(split: Split, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Images and labels on the device where they take less than half of its free memory, else where they are."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if split.images.numel() < free / 2:
            labels = None if split.labels is None else split.labels.to(device)
            return split.images.to(device), labels
    return split.images, split.labels


def restore(job: TrainingJob, run: Run, optimizer: torch.optim.Optimizer) -> int:
    """Load the run's last checkpoint into network and optimizer; returns the step to go on with, 0 without one."""
    saved = run.checkpoints.load_latest()
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
    _check_recipe(job, saved)
    if saved.meta.get("content") != job.meta["content"]:
        raise CheckpointError(
            f"the images of {job.split.name} are not those that {saved.path} was trained on",
            "put back the data as it was, or start a new run",
        )
    load_network(job.network, saved.tensors)
    restore_optimizer(optimizer, saved.tensors, saved.meta["optimizer"])
    run.speaker.say(f"resumed at step {step} of {job.steps} from {saved.path.name}")
    return step


def _check_recipe(job: TrainingJob, saved: Checkpoint) -> None:
    """Raise CheckpointError where another recipe would go on with a checkpoint than the one that made it."""
    stage = job.objective.stage
    parts = ("data", "backbone", "projector", "noise", stage)
    before, now = (
        {key: value for key, value in toml.flatten(recipe.resolved()).items() if key.partition(".")[0] in parts}
        | {"system.seed": recipe.system.seed}
        for recipe in (recipe_of(saved), read_recipe(job.meta["recipe"], "the recipe"))
    )
    free = {f"{stage}.save_every", f"{stage}.keep"}
    for key in sorted((before.keys() | now.keys()) - free):
        if before.get(key) != now.get(key):
            raise CheckpointError(
                f"{saved.path} was made with {key} = {before.get(key)}, this is {now.get(key)}",
                "resume with the recipe that the run was started with, or start a new run",
            )


class _Ledger:
    """Losses on their way from the device to the metrics, and the best figure so far."""

    def __init__(self, run: Run, stage: str, best_by: str | None) -> None:
        self._run = run
        self._stage = stage
        self._best_by = best_by
        self._best = -math.inf
        self._waiting: list[tuple[int, int, float, Tensor]] = []
        self._epochs: dict[int, list[float]] = {}

    def restore(self, step: int) -> dict[str, Any]:
        """Take up the losses of the epoch that a resumed run is in the middle of; returns the last epoch's figures."""
        lines = [line for line in read_metrics(self._run.metrics.path) if line.get("step", step + 1) <= step]
        for line in lines:
            if line.get("kind") == "step":
                self._epochs.setdefault(line["epoch"] - 1, []).append(line["loss"])
        done = [line for line in lines if line.get("kind") == "epoch"]
        for line in done:
            self._epochs.pop(line["epoch"] - 1, None)
            self.is_best(line)
        return {key: value for key, value in done[-1].items() if key not in ("step", "epoch", "kind")} if done else {}

    def add(self, step: int, epoch: int, rate: float, loss: Tensor) -> None:
        self._waiting.append((step, epoch, rate, loss))
        if len(self._waiting) >= _STEPS_PER_READING:
            self.read()

    def read(self) -> None:
        if not self._waiting:
            return
        losses = (ranks.total(torch.stack([loss for *_, loss in self._waiting])) / ranks.world()).tolist()
        for (step, epoch, rate, _), loss in zip(self._waiting, losses, strict=True):
            if not math.isfinite(loss):
                raise NumericsError(
                    f"the loss is {loss} at step {step + 1}; the last checkpoint was made before it",
                    f"try a lower learning rate or a warm-up: --set {self._stage}.schedule.warmup_epochs=10",
                )
            self._run.metrics.append(step=step + 1, epoch=epoch + 1, kind="step", loss=loss, lr=rate)
            self._epochs.setdefault(epoch, []).append(loss)
        self._waiting.clear()

    def is_best(self, figures: dict[str, Any]) -> bool:
        """Whether an epoch's figures are better than those of every epoch before it."""
        found = figures.get(self._best_by or "", -math.inf)
        better = found > self._best
        self._best = max(found, self._best)
        return better

    def mean(self, epoch: int) -> float:
        losses = self._epochs.pop(epoch)
        return sum(losses) / len(losses)
