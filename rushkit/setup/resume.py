"""Resume a stopped run: find it, and check which settings may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rushkit.distributed import ranks
from rushkit.distributed.notes import note_run
from rushkit.errors import CheckpointError, RushkitError, UsageError, shell_line
from rushkit.recipe.components import check_components
from rushkit.recipe.load import derive_recipe, load_recipe, read_recipe
from rushkit.recipe.overrides import parse_changes, said_as
from rushkit.recipe.registered import REGISTERED, open_registered
from rushkit.recipe.schema import Recipe
from rushkit.recipe.variant import base_name
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.info import STOPPED, find_runs, read_run_file
from rushkit.run.named import Wish, run_named
from rushkit.run.names import CHECKPOINTS, METRICS_FILE, RECIPE_FILE
from rushkit.run.parent import checkpoint_of_run
from rushkit.run.speaker import Speaker
from rushkit.setup.fronted import fronted
from rushkit.setup.given import given_model

# Settings that affect results by rounding at most: folders, the device and its code, the size of a pass, and logging.
_HERE = frozenset(f"system.{key}" for key in ("data_dir", "runs_dir", "device", "compile", "chunk", "trackers"))
# The keys of [system] that a resumed run takes from its recipe. The precision of its passes comes from run.json.
KEPT = ("seed", "device", "compile", "chunk", "data_dir", "trackers")
# The verb that uses the checkpoint of a finished training run.
_NEXT_VERB = {"pretrain": "finetune", "finetune": "evaluate"}


@dataclass(frozen=True)
class Stopped:
    """Which run to resume.

    Attributes:
        verb: The command that started the run.
        root: The folder of runs.
        folder: What names the run, by the rule of ``run.named``; None means the newest stopped run of the verb.
        recipe: The name of a recipe, or the path of a TOML file. Without ``folder``, only its runs are considered.
    """

    verb: str
    root: str
    folder: str | None = None
    recipe: str | None = None


def reopen(stopped: Stopped, changes: list[str] | None = None, speaker: Speaker | None = None) -> tuple[Recipe, Run]:
    """Open a stopped run, and return its recipe, adapted to this machine, and the run.

    Args:
        stopped: Which run.
        changes: Changes to settings that do not affect the results, such as ``["system.device=cuda"]``.
        speaker: Prints the run's messages.

    Raises:
        UsageError: there is no such run, it is a training run that has finished, or a change would affect the results.
    """
    check_changes(stopped.verb, changes)
    recipe = stopped.recipe
    if recipe is not None and recipe.endswith(".toml"):
        recipe = load_recipe(recipe, components=False).name
    ranks.join()
    if ranks.rank():
        # Rank 0 has already opened the run, so a search for stopped runs would not find it.
        path = Path(ranks.broadcast(None))
        run = Run.open(path, speaker, ranks.rank())
    else:
        path = _folder(stopped, recipe)
        # Opening the run marks it as running, so its verb is checked first.
        _check_verb(path, stopped.verb)
        run = Run.open(path, speaker)
        note_run(path)
        ranks.broadcast(str(path.resolve()))
    try:
        for altered in open_registered(run.about.to_table().get(REGISTERED)):
            run.speaker.warn(altered)
        stored = read_recipe(run.recipe_toml, str(path / RECIPE_FILE))
        given = {"system.precision": stored.system.precision} | dict(parse_changes(changes or []))
        derived = derive_recipe(stored, given, system=KEPT)
        check_components(derived)
        return derived, run
    except RushkitError as error:
        run.fail(error)
        raise


def check_changes(verb: str, changes: list[str] | None, flag: str = "--resume", more: Sequence[str] = ()) -> None:
    """Raise UsageError for a change that would affect the results: a run that goes on keeps its recipe.

    Args:
        verb: The stage.
        changes: The changes.
        flag: What the user said to go on.
        more: Further keys that may change.
    """
    free = _HERE | {f"{verb}.save_every", f"{verb}.keep", *more}
    for change in changes or []:
        if parse_changes([change])[0][0] not in free:
            raise UsageError(
                f"{flag} goes on with the recipe of the run; it cannot take {said_as(change)}",
                "start a new run for another recipe",
            )


def measured_checkpoint(recipe: Recipe, run: Run) -> Checkpoint:
    """Return the model that a resumed run measures: its parent, or the code of the user's, if this command names it.

    Raises:
        UsageError: this command does not name the code.
        CheckpointError: it is another model now, or the checkpoint is gone; the run is marked as failed.
    """
    facts = run.about.model
    if facts is None:
        return parent_checkpoint(run)
    try:
        given = fronted(recipe, parent_checkpoint(run)) if run.about.parent else given_model(recipe)
        if given.hash != facts.hash:
            changed = "its file" if given.facts.sha256 != facts.sha256 else "its weights, its arguments or its options"
            raise CheckpointError(
                f"the model changed: {given.path} is another one than {run.path} measures ({changed})",
                "put it back as it was, or start a new run; weights that are drawn anew at every start need a seed",
            )
    except RushkitError as error:
        run.fail(error)
        raise
    return given


def parent_checkpoint(run: Run, key: str = "parent") -> Checkpoint:
    """Load the checkpoint that a resumed run builds on; if it cannot be loaded, mark the run as failed.

    Args:
        run: The run.
        key: The key of run.json that names it: ``"parent"``, or ``"transfer_to"`` for the other model of an attack.

    Raises:
        CheckpointError: the checkpoint is gone, or has been replaced by another.
    """
    try:
        return checkpoint_of_run(run, key)
    except RushkitError as error:
        run.fail(error)
        raise


def parent_if_any(run: Run) -> Checkpoint | None:
    """Load the checkpoint that a resumed training started from, or learns from; None if it builds on none."""
    return parent_checkpoint(run) if run.about.parent else None


def _folder(stopped: Stopped, recipe: str | None) -> Path:
    if not stopped.folder:
        return _newest(stopped, recipe)
    return run_named(stopped.folder, stopped.root, (Wish((stopped.verb,), STOPPED), Wish((stopped.verb,), ())))[0].path


def _newest(stopped: Stopped, recipe: str | None) -> Path:
    for info in find_runs(stopped.root):
        fits = (
            info.verb == stopped.verb
            and info.status in STOPPED
            and recipe in (None, info.recipe, base_name(info.recipe))
        )
        # A run that failed before it began any work must not hide an older one.
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
