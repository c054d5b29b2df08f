"""The training loop of both training stages: it resumes exactly, stops on signals, and detects NaN losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rushkit.data.memory import Split
from rushkit.distributed import ranks
from rushkit.distributed.share import Share, share_of
from rushkit.errors import Interrupted, UsageError, shell_line
from rushkit.interrupt import uninterrupted
from rushkit.models.draws import global_draws
from rushkit.recipe.schema import Optimizer, Training
from rushkit.rounding import figure
from rushkit.run.folder import Run
from rushkit.run.optimizer_state import optimizer_tensors
from rushkit.run.signals import graceful_stop
from rushkit.setup.model import NOISE_DRAWN
from rushkit.system import Machine, generator
from rushkit.training.epoch_log import EpochLog
from rushkit.training.job import TrainingJob
from rushkit.training.noted_noise import NotedNoise
from rushkit.training.restore import restore
from rushkit.training.schedule import learning_rate

_watchers: list[Callable[[int], None]] = []


@contextmanager
def watching_steps(watch: Callable[[int], None]) -> Iterator[None]:
    """Call ``watch`` with the number of each training step, from 1, as soon as its weights are updated.

    It may raise an error to end the training. The step's loss and checkpoint are written only after the call::

        with watching_steps(lambda step: print(step)):
            pretrain(recipe)
    """
    _watchers.append(watch)
    try:
        yield
    finally:
        _watchers.remove(watch)


def train(job: TrainingJob, run: Run, machine: Machine, seed: int) -> dict[str, float]:
    """Train from the run's last checkpoint, or from the start, to the end.

    Every draw comes from a generator seeded by (seed, purpose, epoch, step), so a run that was stopped anywhere and
    resumed ends with the same weights, bit for bit on a CPU. Several ranks split each batch; losses and gradients are
    those of the whole batch, so a run can resume with another number of ranks. A model with random layers, such as
    dropout, draws from torch's global generators, which are seeded for each step and rank and restored after it.

    Args:
        job: What to train.
        run: The run that metrics and checkpoints are written to.
        machine: Device and precision.
        seed: Seeds the order of the images, the views and the noise.

    Returns:
        The figures of the last epoch by name: ``loss`` and the values that the job measures. Empty if they are lost.

    Raises:
        UsageError: the batch does not divide over the ranks in pre-training.
        NumericsError: the loss is NaN or infinite; the last checkpoint stays.
        Interrupted: a signal asked to stop; everything is saved.
    """
    settings, stage, per_epoch = job.settings, job.stage, job.steps_per_epoch
    _check_ranks(job)
    trainable = [parameter for parameter in job.network.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(settings.optimizer, trainable, machine.device)
    images, labels = resident(job.split, machine.device)
    resumed_at = restore(job, run, optimizer)
    noise = NotedNoise(job.noise)
    job = replace(job, noise=noise)
    model = _compiled(job, run, machine)
    log = EpochLog(run, stage, job.best_by)
    figures = log.restore(resumed_at)
    saver = _Saver(job, run, optimizer, log, noise)
    run.checkpoints.keep = settings.keep
    with (
        graceful_stop(lambda name: run.speaker.say(f"{name}: saving, then stopping")) as stop,
        run.speaker.progress(job.steps, stage, "steps", start=resumed_at) as progress,
    ):
        stopping, rate = False, 0.0
        for epoch in range(resumed_at // per_epoch, settings.epochs):
            job.set_modes()
            order = torch.randperm(len(job.split), generator=generator(seed, f"{stage}-order", epoch))
            for step in range(max(resumed_at, epoch * per_epoch), (epoch + 1) * per_epoch):
                index = step - epoch * per_epoch
                rows, share = _rows_of(order, index, settings.batch_size, images.device)
                batch = images[rows].to(machine.device, non_blocking=True)
                batch_labels = None if labels is None else labels[rows].to(machine.device, non_blocking=True)
                draws = generator(seed, f"{stage}-draws", epoch, index, device=machine.device)
                rate = rate_of_step(settings, step, per_epoch)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                with global_draws(seed, f"{stage}-model", epoch, index, ranks.rank(), device=machine.device):
                    loss = train_step(job, model, batch, batch_labels, share, draws, optimizer, machine)
                for watch in _watchers:
                    watch(step + 1)
                log.add(step, epoch, rate, loss)
                progress.advance(1, loss=loss, epoch=epoch + 1)
                stopping = ranks.any_rank(stop.requested)
                if (step + 1) % per_epoch:
                    saver.within_epoch(step + 1, stopping)
            log.read()
            figures = {"loss": log.mean_loss(epoch), **dict(job.evaluate(epoch + 1))}
            best = log.end_epoch(epoch, (epoch + 1) * per_epoch, figures)
            words = ", ".join(f"{name} {figure(name, value)}" for name, value in figures.items())
            run.speaker.detail(f"epoch {epoch + 1}/{settings.epochs}: {words}")
            progress.row(epoch=epoch + 1, **figures, lr=rate)
            saver.after_epoch((epoch + 1) * per_epoch, best, stopping)
    return figures


@dataclass(frozen=True)
class _Saver:
    """Saves checkpoints when they are due, and ends the training when asked to stop."""

    job: TrainingJob
    run: Run
    optimizer: torch.optim.Optimizer
    log: EpochLog
    noise: NotedNoise

    def within_epoch(self, done: int, stopping: bool) -> None:
        """Save or stop, if due, after ``done`` steps in the middle of an epoch."""
        if stopping:
            self._save(done)
            self._stop(done)
        if done % self.job.interval == 0:
            self._save(done)

    def after_epoch(self, done: int, best: bool, stopping: bool) -> None:
        """Save or stop, if due, after ``done`` steps at the end of an epoch."""
        if best or stopping or done % self.job.interval == 0 or done == self.job.steps:
            self._save(done, best)
        if stopping:
            self._stop(done)

    def _save(self, done: int, best: bool = False) -> None:
        with uninterrupted():
            self.log.read()
            tensors, state = optimizer_tensors(self.optimizer)
            per_epoch = self.job.steps_per_epoch
            meta = self.job.meta() | {NOISE_DRAWN: self.noise.drawn}
            meta |= {"step": done, "epoch": done // per_epoch, "steps_per_epoch": per_epoch, "optimizer": state}
            self.run.save_checkpoint(done, {**self.job.network.tensors(), **tensors}, meta, best)

    def _stop(self, done: int) -> None:
        ranks.wait()
        raise Interrupted(
            f"stopped at step {done} of {self.job.steps}; everything is saved in {self.run.path}",
            f"go on with: {shell_line('rushkit', self.job.stage, '--resume', '--run', self.run.path)}",
        )


def _check_ranks(job: TrainingJob) -> None:
    """Raise UsageError if all batches must be full but do not divide over the ranks."""
    batch, world = job.settings.batch_size, ranks.world()
    if job.drop_last and batch % world:
        raise UsageError(
            f"a batch of {batch} does not divide over {world} ranks",
            f"for example --set {job.stage}.batch_size={max(1, batch // world) * world}",
        )


def _compiled(job: TrainingJob, run: Run, machine: Machine) -> Callable[[Tensor], Tensor]:
    """Return the network to call in training: with gradients averaged over ranks, and compiled if the machine can."""
    model: Callable[[Tensor], Tensor] = machine.compiled(ranks.parallel(job.network, machine.device))
    if machine.compiles:
        run.speaker.say(
            "compiling the network: the first steps take a minute or so; --set system.compile=off does without"
        )
    return model


def _rows_of(order: Tensor, index: int, batch_size: int, device: torch.device) -> tuple[Tensor, Share]:
    """Return this rank's images of a batch of an epoch, as indices on a device, and its share of the batch."""
    batch = order[index * batch_size : (index + 1) * batch_size]
    share = share_of(len(batch))
    return batch[share.rows].to(device), share


def train_step(
    job: TrainingJob,
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor | None,
    share: Share,
    draws: torch.Generator,
    optimizer: torch.optim.Optimizer,
    machine: Machine,
) -> Tensor:
    """Make one step on this rank's share of a batch.

    Args:
        job: The objective, with its views and noise.
        model: The job's network, possibly wrapped by ``ranks.parallel`` and compiled.
        images: (n, C, H, W) uint8 images of the share.
        labels: (n,) labels of the share, or None.
        share: The rows of the batch that they are.
        draws: The generator of the draws of the whole batch.
        optimizer: The optimizer of the network's parameters.
        machine: Device and precision.

    Returns:
        The share's part of the loss, whose mean over the ranks is the loss of the batch; a detached scalar.
    """
    inputs = job.objective.inputs(images, share.views(job.views), share.noise(job.noise), draws)
    with machine.autocast():
        outputs = model(inputs.contiguous(memory_format=torch.channels_last))
        # A rank without images still takes part in every collective of the backward pass.
        loss = job.objective.loss(outputs, labels) if share.count else outputs.float().sum()
    if share.weight != 1:
        loss = loss * share.weight
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def build_optimizer(section: Optimizer, parameters: list[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """Return the recipe's optimizer for some parameters, fused if the device has such a kernel."""
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


def rate_of_step(settings: Training, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate at a step (from 0); with ``per = "epoch"`` it is constant within each epoch."""
    schedule, peak = settings.schedule, settings.optimizer.lr
    unit = 1 if schedule.per == "step" else steps_per_epoch
    total, warmup = (epochs * steps_per_epoch // unit for epochs in (settings.epochs, schedule.warmup_epochs))
    end = peak if schedule.name == "constant" else min(schedule.min_lr, peak)
    return learning_rate(step // unit, total, peak, end, warmup)


def resident(split: Split, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return images and labels, on the device if they take less than half of its free memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if split.images.numel() < free / 2:
            labels = None if split.labels is None else split.labels.to(device)
            return split.images.to(device), labels
    return split.images, split.labels
