"""Going on with a run that was stopped: which run is meant, and what may change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rushkit.distributed import ranks
from rushkit.errors import RushkitError, UsageError, shell_line
from rushkit.paths import is_folder
from rushkit.recipe.components import check_components
from rushkit.recipe.load import derive_recipe, load_recipe, read_recipe
from rushkit.recipe.overrides import parse_changes
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.info import STOPPED, find_runs, read_run_file
from rushkit.run.names import CHECKPOINTS, METRICS_FILE, RECIPE_FILE
from rushkit.run.parent import checkpoint_of_run
from rushkit.run.speaker import Speaker

# What changes no draw: where things lie, what computes, in what passes, and who looks on.
_HERE = frozenset({"system.data_dir", "system.runs_dir", "system.device", "system.chunk", "system.tensorboard"})
# The keys of [system] that the recipe of the run keeps, beside the precision that it was computed in.
_KEPT = ("seed", "device", "chunk", "data_dir", "tensorboard")
# The verb that uses what a training made.
_NEXT_VERB = {"pretrain": "finetune", "finetune": "evaluate"}


@dataclass(frozen=True)
class Stopped:
    """A description of the run to go on with.

    Attributes:
        verb: The command that made it.
        root: The folder of runs.
        folder: Its path, or its name in the folder of runs; None: the newest stopped run of the verb.
        recipe: Among those, only the runs of this recipe: a name, or the path of a TOML file.
    """

    verb: str
    root: str
    folder: str | None = None
    recipe: str | None = None


def reopen(stopped: Stopped, changes: list[str] | None = None, speaker: Speaker | None = None) -> tuple[Recipe, Run]:
    """Open a stopped run and return it with its recipe as it holds on this machine.

    Args:
        stopped: Which run.
        changes: ``["system.device=cuda"]``: keys that do not change what is computed.
        speaker: Where sentences go.

    Raises:
        UsageError: no such run, a training that is finished, or a change to what is computed.
    """
    check_changes(stopped.verb, changes)
    recipe = stopped.recipe
    if recipe is not None and recipe.endswith(".toml"):
        recipe = load_recipe(recipe).name
    ranks.join()
    if ranks.rank():
        # Rank 0 has opened it already, so that it is not a stopped run any more.
        path = Path(ranks.broadcast(None))
        run = Run.open(path, speaker, ranks.rank())
    else:
        path = _folder(stopped, recipe)
        # Before it is opened, which marks it as running.
        _check_verb(path, stopped.verb)
        run = Run.open(path, speaker)
        ranks.broadcast(str(path.resolve()))
    try:
        stored = read_recipe(run.recipe_toml, str(path / RECIPE_FILE))
        given = {"system.precision": run.about.precision or "auto"} | dict(parse_changes(changes or []))
        derived = derive_recipe(stored, given, system=_KEPT)
        check_components(derived)
        return derived, run
    except RushkitError as error:
        run.fail(error)
        raise


def check_changes(verb: str, changes: list[str] | None) -> None:
    """Raise UsageError for a change that a resumed run cannot take: it goes on with the recipe that it has."""
    free = _HERE | {f"{verb}.save_every", f"{verb}.keep"}
    for change in changes or []:
        if parse_changes([change])[0][0] not in free:
            raise UsageError(
                f"--resume goes on with the recipe of the run; it cannot take --set {change}",
                "start a new run for another recipe",
            )


def parent_checkpoint(run: Run, key: str = "parent") -> Checkpoint:
    """Load the checkpoint that a resumed run builds on. Where it is gone the run fails, as it would in its stage.

    Args:
        run: The run.
        key: Of run.json: ``"parent"``, or ``"transfer_to"`` for the other model of an attack.

    Raises:
        CheckpointError: it is gone, or another one has taken its place.
    """
    try:
        return checkpoint_of_run(run, key)
    except RushkitError as error:
        run.fail(error)
        raise


def parent_if_any(run: Run) -> Checkpoint | None:
    """Load the checkpoint that a resumed fine-tuning started from; None where it started from random weights."""
    return parent_checkpoint(run) if run.about.parent else None


def _folder(stopped: Stopped, recipe: str | None) -> Path:
    if not stopped.folder:
        return _newest(stopped, recipe)
    path = Path(stopped.folder)
    below = Path(stopped.root) / path
    return below if is_folder(below) and not is_folder(path) else path


def _newest(stopped: Stopped, recipe: str | None) -> Path:
    for info in find_runs(stopped.root):
        fits = info.verb == stopped.verb and info.status in STOPPED and recipe in (None, info.recipe)
        # A run that failed before it did anything would hide the one before it.
        began = any((info.path / part).exists() for part in (CHECKPOINTS, METRICS_FILE, "counts"))
        if fits and began:
            return info.path
    of = f" of recipe {recipe!r}" if recipe else ""
    raise UsageError(
        f"there is no stopped run of {stopped.verb}{of} in {stopped.root}",
        "name one with --run, or leave --resume out",
    )


def _check_verb(path: Path, verb: str) -> None:
    facts = read_run_file(path)
    made_by = facts.verb
    if made_by != verb:
        raise UsageError(
            f"{path} is a run of {made_by}, not of {verb}", shell_line("rushkit", made_by, "--resume", "--run", path)
        )
    if verb in _NEXT_VERB and facts.status == "finished":
        raise UsageError(
            f"{path} is finished: there is nothing to go on with",
            f"to use it: {shell_line('rushkit', _NEXT_VERB[verb], '--from', path)}; longer training is a new run",
        )
