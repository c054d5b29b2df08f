"""The training loop of both training stages: it resumes exactly, stops on signals, and detects NaN losses."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rushkit.distributed import ranks
from rushkit.errors import Interrupted, PluginError, UsageError, shell_line
from rushkit.interrupt import uninterrupted
from rushkit.models.draws import kept_draws, seed_draws
from rushkit.results.notes import Note
from rushkit.rounding import figure
from rushkit.run.folder import Run
from rushkit.run.optimizer_state import optimizer_tensors
from rushkit.run.signals import graceful_stop
from rushkit.setup.model import NOISE_DRAWN
from rushkit.system import Machine, generator
from rushkit.training.batch import Draws, StepBatch
from rushkit.training.collapse import CollapseWatch
from rushkit.training.epoch_log import EpochLog
from rushkit.training.job import TrainingJob
from rushkit.training.mixing import Feed
from rushkit.training.optimizer import build_optimizer
from rushkit.training.recomputation import recompute_where_needed
from rushkit.training.restore import restore
from rushkit.training.schedule import rate_of_step

_watchers: list[Callable[[int], None]] = []
# The hint for an objective that breaks the rules of the loop.
_RULES = "docs/objectives.md says what an objective may do"


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


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes:
        figures: Those of the last epoch by name: ``loss`` and the values that the job measures. Empty if they are lost.
        epochs: How many epochs it took.
        notes: That it stopped early, or has collapsed.
    """

    figures: dict[str, float]
    epochs: int
    notes: list[Note]


def train(job: TrainingJob, run: Run, machine: Machine, seed: int) -> Trained:
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
        The figures of the last epoch, and what is to be noted of it.

    Raises:
        UsageError: the batch does not divide over the ranks in pre-training.
        PluginError: the objective breaks a rule of docs/objectives.md; see ``train_batch``.
        NumericsError: the loss is NaN or infinite; the last checkpoint stays.
        Interrupted: a signal asked to stop; everything is saved.
    """
    settings, stage, per_epoch = job.settings, job.stage, job.steps_per_epoch
    check_ranks(job)
    optimizer = build_optimizer(settings.optimizer, job.trained, machine.device, job.norms)
    feed = Feed(job.fed, job.extra, settings.batch_size, seed, stage, machine.device, job.labels)
    draws = Draws(job.views, job.noise)
    resumed_at = restore(job, run, optimizer, draws)
    _prepare(job, run, machine)
    log = EpochLog(run, stage, job.best_by, job.patience)
    watch_collapse = CollapseWatch(job, run, machine)
    figures = log.restore(resumed_at)
    saver = _Saver(job, run, optimizer, log, draws)
    run.checkpoints.keep = settings.keep
    with (
        given_channels_last(job.network),
        graceful_stop(lambda name: run.speaker.say(f"{name}: saving, then stopping")) as stop,
        run.speaker.progress(job.steps, stage, "steps", start=resumed_at) as progress,
    ):
        epoch, stopping, rate = resumed_at // per_epoch, False, 0.0
        while epoch < settings.epochs and not log.over():
            job.set_modes()
            for step in range(max(resumed_at, epoch * per_epoch), (epoch + 1) * per_epoch):
                index = step - epoch * per_epoch
                rows = feed.rows(epoch, index, per_epoch)
                batch = StepBatch(
                    images=rows.images,
                    labels=rows.labels,
                    progress=step / job.steps,
                    epoch=step / per_epoch,
                    share=rows.share,
                    source=generator(seed, f"{stage}-draws", epoch, index, device=machine.device),
                    draws=draws,
                    classes=job.columns[0] if job.columns else len(job.classes),
                    label_smoothing=rows.label_smoothing,
                    columns=job.columns,
                )
                rate = rate_of_step(settings, step, per_epoch)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss = train_batch(batch, job, optimizer, machine, (seed, epoch, index))
                if job.average is not None:
                    job.average.follow(step)
                for watch in _watchers:
                    watch(step + 1)
                log.add(step, epoch, rate, loss, batch.noted)
                progress.advance(1, loss=loss, epoch=epoch + 1)
                stopping = ranks.any_rank(stop.requested)
                if (step + 1) % per_epoch:
                    saver.within_epoch(step + 1, stopping)
            log.read()
            with machine.uncompiled():
                figures = {"loss": log.mean_loss(epoch), **dict(job.evaluate(epoch + 1))}
            best = log.end_epoch(epoch, (epoch + 1) * per_epoch, figures)
            epoch += 1
            words = ", ".join(f"{name} {figure(name, value)}" for name, value in figures.items())
            run.speaker.detail(f"epoch {epoch}/{settings.epochs}: {words}")
            progress.row(epoch=epoch, **figures, lr=rate)
            watch_collapse(log.losses)
            saver.after_epoch(epoch * per_epoch, best, stopping, last=log.over() is not None)
    return Trained(figures, epoch, [note for note in (log.over(), watch_collapse.at_end(log.losses)) if note])


@dataclass(frozen=True)
class _Saver:
    """Saves checkpoints when they are due, and ends the training when asked to stop."""

    job: TrainingJob
    run: Run
    optimizer: torch.optim.Optimizer
    log: EpochLog
    draws: Draws

    def within_epoch(self, done: int, stopping: bool) -> None:
        """Save or stop, if due, after ``done`` steps in the middle of an epoch."""
        if stopping:
            self._save(done)
            self._stop(done)
        if done % self.job.interval == 0:
            self._save(done)

    def after_epoch(self, done: int, best: bool, stopping: bool, last: bool = False) -> None:
        """Save or stop, if due, after ``done`` steps at the end of an epoch; the ``last`` one is always saved."""
        if best or stopping or last or done % self.job.interval == 0 or done == self.job.steps:
            self._save(done, best)
        if stopping:
            self._stop(done)

    def _save(self, done: int, best: bool = False) -> None:
        with uninterrupted():
            self.log.read()
            tensors, state = optimizer_tensors(self.optimizer)
            per_epoch = self.job.steps_per_epoch
            meta = self.job.meta() | {NOISE_DRAWN: self.draws.noise_drawn}
            meta |= {"step": done, "epoch": done // per_epoch, "steps_per_epoch": per_epoch, "optimizer": state}
            self.run.save_checkpoint(done, {**self.job.tensors(), **tensors}, meta, best)

    def _stop(self, done: int) -> None:
        ranks.wait()
        raise Interrupted(
            f"stopped at step {done} of {self.job.steps}; everything is saved in {self.run.path}",
            f"go on with: {shell_line('rushkit', self.job.stage, '--resume', '--run', self.run.path)}",
        )


def check_ranks(job: TrainingJob) -> None:
    """Raise UsageError if the batches of pre-training do not divide over the ranks: its losses join equal parts."""
    batch, world = job.settings.batch_size, ranks.world()
    if job.stage == "pretrain" and batch % world:
        raise UsageError(
            f"a batch of {batch} does not divide over {world} ranks",
            f"for example --set {job.stage}.batch_size={max(1, batch // world) * world}",
        )


def _prepare(job: TrainingJob, run: Run, machine: Machine) -> None:
    """Join BatchNorm over the ranks; bound the step's memory, or compile network and memory if the machine can."""
    ranks.synchronise(job.network)
    ranks.synchronise(job.memory)
    if job.average is not None:
        ranks.synchronise(job.average.network)
    if recompute_where_needed(job, run, machine):
        return
    if machine.compiles:
        run.speaker.say(
            "compiling the network: the first steps take a minute or so; --set system.compile=off does without"
        )
    machine.compile_in_place(job.network, *job.memory.children())


@contextmanager
def given_channels_last(network: nn.Module) -> Iterator[None]:
    """Convert the images that a network is given inside to channels-last memory format, that of its filters."""

    def convert(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *others = given
        return x.contiguous(memory_format=torch.channels_last), *others

    handle = network.register_forward_pre_hook(convert)
    try:
        yield
    finally:
        handle.remove()


def train_batch(
    batch: StepBatch,
    job: TrainingJob,
    optimizer: torch.optim.Optimizer,
    machine: Machine,
    place: tuple[int, int, int],
) -> Tensor:
    """Take the optimizer steps that the objective asks for on this rank's share of a batch.

    Args:
        batch: The rows of the share.
        job: The objective, its network and its memory.
        optimizer: The optimizer of everything that trains.
        machine: Device and precision.
        place: Seed, epoch and index of the batch, which seed the draws of random layers.

    Returns:
        The share's part of the loss, the mean over the steps, whose mean over the ranks is the loss of the batch; a
        detached scalar.

    Raises:
        PluginError: the objective yields no loss, one that is not a scalar with a gradient, or one inside an open
            ``no_grad``, ``inference_mode`` or ``autocast``.
    """
    steps = iter(job.objective.losses(job.network, job.memory, batch))
    losses: list[Tensor] = []
    incomplete = batch.share.total < job.settings.batch_size
    with kept_draws(machine.device), machine.uncompiled() if incomplete else nullcontext():
        while (loss := _next_loss(steps, job, machine, place, len(losses))) is not None:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            ranks.average_gradients(job.trained)
            optimizer.step()
            losses.append(loss.detach())
    if not losses:
        raise PluginError(f"objective {job.settings.objective!r} yields no loss", _RULES)
    return torch.stack(losses).mean()


def _next_loss(
    steps: Iterator[Tensor], job: TrainingJob, machine: Machine, place: tuple[int, int, int], done: int
) -> Tensor | None:
    """Run an objective up to its next yield, and return the loss; None at its end."""
    seed, *counters = place
    # Replays of a batch draw anew in random layers.
    again = (done,) if done else ()
    seed_draws(seed, f"{job.stage}-model", *counters, ranks.rank(), *again, device=machine.device)
    with machine.autocast():
        before = _open_contexts(machine)
        loss = next(steps, None)
        after = _open_contexts(machine)
    if after != before:
        if isinstance(steps, Generator):
            # Leaves the contexts.
            steps.close()
        raise PluginError(
            f"objective {job.settings.objective!r} yields inside a no_grad, inference_mode or autocast", _RULES
        )
    if loss is not None and (not isinstance(loss, Tensor) or loss.dim() or not loss.requires_grad):
        raise PluginError(
            f"objective {job.settings.objective!r} yields something that is not a loss to train on", _RULES
        )
    return loss


def _open_contexts(machine: Machine) -> tuple[bool, ...]:
    """Return the state that torch's contexts change."""
    kind = machine.device.type
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled(kind)
