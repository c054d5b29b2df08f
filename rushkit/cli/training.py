"""What the two training verbs share: going on with a stopped run, the dry run, the closing lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from rushkit.cli.options import Output
from rushkit.distributed import ranks
from rushkit.errors import RushkitError, UsageError, shell_line
from rushkit.models.network import macs, num_parameters
from rushkit.paths import is_folder
from rushkit.recipe.components import check_components
from rushkit.recipe.load import derive_recipe, load_recipe, read_recipe
from rushkit.recipe.overrides import parse_changes
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.find import STOPPED, find_runs
from rushkit.run.folder import CHECKPOINTS, METRICS_FILE, Run, read_run_file
from rushkit.run.parent import checkpoint_of_run
from rushkit.run.progress import Speaker, figure
from rushkit.setup.start import machine_of
from rushkit.training.loop import TrainingJob

_WORDS = {"knn_accuracy": "nearest neighbours right", "validation_accuracy": "right on validation images"}
# What makes use of what a training verb made.
_FOLLOWING = {"pretrain": "finetune", "finetune": "evaluate"}


def reopen(
    verb: str, recipe: str | None, folder: str | None, changes: list[str] | None, root: str, speaker: Speaker
) -> tuple[Recipe, Run]:
    """The run that ``--resume`` means, open, and its recipe on this machine.

    Raises:
        UsageError: no such run, a training that is finished, or a change to what is computed.
    """
    # What changes no draw: where things lie, what computes, in what passes, how often it is saved, and who looks on.
    here = ("system.data_dir", "system.runs_dir", "system.device", "system.chunk", "system.tensorboard")
    free = (*here, f"{verb}.save_every", f"{verb}.keep")
    foreign = [change for change in changes or [] if parse_changes([change])[0][0] not in free]
    if recipe is not None and recipe.endswith(".toml"):
        recipe = load_recipe(recipe).name
    if foreign:
        raise UsageError(
            f"--resume goes on with the recipe of the run; it cannot take --set {foreign[0]}",
            "start a new run for another recipe",
        )
    ranks.join()
    if ranks.rank():
        # Rank 0 has opened it, and with that made it a run that nobody would resume.
        path = Path(ranks.broadcast(None))
        run = Run.open(path, speaker, ranks.rank())
    else:
        path = Path(folder) if folder else _newest_stopped(verb, recipe, root)
        if not is_folder(path) and is_folder(Path(root) / path):
            path = Path(root) / path
        # Asked before it is opened, which makes it a running one.
        told = read_run_file(path)
        made_by = told["verb"]
        if made_by != verb:
            raise UsageError(
                f"{path} is a run of {made_by}, not of {verb}",
                shell_line("rushkit", made_by, "--resume", "--run", path),
            )
        if verb in _FOLLOWING and told["status"] == "finished":
            raise UsageError(
                f"{path} is finished: there is nothing to go on with",
                f"to use it: {shell_line('rushkit', _FOLLOWING[verb], '--from', path)}; longer training is a new run",
            )
        run = Run.open(path, speaker)
        ranks.broadcast(str(path.resolve()))
    try:
        stored = read_recipe(run.recipe_toml, str(path / "recipe.toml"))
        given = {"system.precision": run.data.get("precision", "auto")} | dict(parse_changes(changes or []))
        derived = derive_recipe(stored, given, system=("seed", "device", "chunk", "data_dir", "tensorboard"))
        check_components(derived)
        return derived, run
    except RushkitError as error:
        run.fail(error)
        raise


def refuse_dry_resume(dry_run: bool) -> None:
    """Raise UsageError for --resume with --dry-run: a resume trains."""
    if dry_run:
        raise UsageError("--resume goes on training, --dry-run trains nothing", "leave one of them out")


def parent_checkpoint(run: Run, key: str = "parent") -> Checkpoint:
    """The checkpoint that a resumed run builds on. Where it is gone the run fails, as it would have in its stage."""
    try:
        return checkpoint_of_run(run, key)
    except RushkitError as error:
        run.fail(error)
        raise


def _newest_stopped(verb: str, recipe: str | None, root: str) -> Path:
    for info in find_runs(root):
        stopped = info.verb == verb and info.status in STOPPED
        # A run that failed before it did anything would hide the one before it.
        began = any((info.path / part).exists() for part in (CHECKPOINTS, METRICS_FILE, "counts"))
        if stopped and began and recipe in (None, info.recipe):
            return info.path
    of = f" of recipe {recipe!r}" if recipe else ""
    raise UsageError(f"there is no stopped run of {verb}{of} in {root}", "name one with --run, or leave --resume out")


def dry_run_table(job: TrainingJob, recipe: Recipe) -> tuple[dict[str, Any], Table]:
    """What would be trained: sizes, steps, memory."""
    size = int(job.meta["image_size"])
    views = job.settings.batch_size * (2 if job.objective.stage == "pretrain" else 1)
    numbers, trainable = num_parameters(job.network), num_parameters(job.network, trainable=True)
    figures = {
        "images": f"{len(job.split)} of {job.split.name}",
        "steps": f"{job.steps} ({job.settings.epochs} epochs of {job.steps_per_epoch})",
        "input": f"{views} x 3 x {size} x {size} a step",
        "parameters": f"{numbers:,}, of which {trainable:,} train",
        "arithmetic": f"{macs(job.network.encoder, size) / 1e6:.1f} MMAC a view",
        "memory": f"about {memory_estimate(job, views, size) / 2**30:.1f} GiB for a step",
        "machine": str(machine_of(recipe)),
    }
    table = Table(title=f"{job.objective.stage} {recipe.name}: dry run", show_header=False)
    for name, value in figures.items():
        table.add_row(name, value)
    return figures, table


def memory_estimate(job: TrainingJob, views: int, size: int) -> int:
    """Bytes of a training step, roughly: weights, gradients and momentum, and the layers' outputs kept for backward."""
    import torch

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
    return 4 * (sum(sizes) * views + 3 * num_parameters(job.network)) + job.split.images.numel()


def finished(output: Output, run: Run, results: dict[str, Any], following: str) -> None:
    """The closing words of a training verb."""
    figures = {key: value for key, value in results.items() if isinstance(value, float)}
    shown = ", ".join(f"{_WORDS.get(key, key)} {figure(key, value)}" for key, value in figures.items())
    if "knn_accuracy" in figures:
        shown += " (clean images; labels are used for this look only)"
    output.result(results, f"{shown}\nrun: {run.path}\nnext: {following}")
