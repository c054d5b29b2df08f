"""Open the run of a stage: create its folder, and record the facts in run.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from rushkit import registries
from rushkit.bf16 import has_bf16_units
from rushkit.distributed import ranks
from rushkit.distributed.notes import note_run
from rushkit.files import JSON
from rushkit.recipe import toml
from rushkit.recipe.components import check_components
from rushkit.recipe.registered import registered_files
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.environment import environment
from rushkit.run.folder import Run
from rushkit.run.parent import hashes_of, keep_checkpoints
from rushkit.run.speaker import Speaker
from rushkit.setup.given import GivenModel
from rushkit.system import Machine, Purpose, choose_machine
from rushkit.trackers import TrackedRun, Tracker
from rushkit.trackers.mirror import Mirror

# Verbs whose runs --resume continues from the checkpoint that they build on.
_RESUMED = ("pretrain", "finetune", "evaluate", "attack", "certify", "audit")
# What the passes of a verb are for; those of the others make figures.
_PURPOSES: Mapping[str, Purpose] = {
    "pretrain": "training",
    "finetune": "training",
    "cluster": "features",
    "probe": "features",
}

# What a run builds on: the path of a run or a checkpoint, or what was loaded from one.
Parent: TypeAlias = str | Path | Checkpoint | None


def start_run(
    verb: str,
    recipe: Recipe,
    speaker: Speaker | None = None,
    parent: Parent = None,
    asked: Mapping[str, JSON] | None = None,
    folder: Path | None = None,
) -> Run:
    """Check the recipe's components and create the run's folder on rank 0; the other ranks open it.

    Args:
        verb: The stage.
        recipe: The recipe, which is stored in the folder.
        speaker: Prints the run's messages.
        parent: The run or checkpoint that this one builds on, or the model of the user's that it measures.
        asked: Options outside the recipe that a resumed run needs; they are written to run.json at once.
        folder: Where the run of a study's job lies; None for a name of its own.

    Raises:
        UsageError: a component or an option is unknown, the device is not available, or a tracker's package is missing.
        RushkitError: the folder cannot be created.
    """
    machine = ready_machine(verb, recipe)
    if ranks.rank():
        run = Run.open(ranks.broadcast(None), speaker, ranks.rank())
        ranks.wait()
        return run
    facts = environment().with_changes(
        device=str(machine.device),
        precision=machine.precision,
        precision_reason=machine.why,
        machine=str(machine),
        seed=recipe.system.seed,
        owners=component_owners(recipe),
        registered=registered_files(recipe),
        parent=_path_of(parent),
        model=parent.facts if isinstance(parent, GivenModel) else None,
        ranks=ranks.world(),
        **(asked or {}),
    )
    facts = facts.with_changes(hashes=hashes_of(facts))
    text = toml.dumps(recipe.resolved())
    run = Run.create(recipe.system.runs_dir, verb, recipe.name, facts, text, speaker, folder)
    note_run(run.path)
    if verb in _RESUMED:
        keep_checkpoints(run)
    ranks.broadcast(str(run.path.resolve()))
    # A run that fails at once deletes its folder; it must not do so before the other ranks have read it.
    ranks.wait()
    return run


def _path_of(parent: Parent) -> str | None:
    """Return the path of a run or a checkpoint; None for a model of the user's, which is no file of a run.

    Of a run behind fronts of the user's it is the run's.
    """
    if isinstance(parent, GivenModel):
        parent = parent.behind
    if parent is None:
        return None
    return str(parent.path if isinstance(parent, Checkpoint) else parent)


def ready_machine(verb: str, recipe: Recipe) -> Machine:
    """Check what a run of a verb needs before it has a folder, join the ranks, and return the machine.

    Raises:
        UsageError: a component or an option is unknown, the device is not available, or a tracker's package is missing.
    """
    check_components(recipe)
    # Made and thrown away: a tracker says by itself what it lacks.
    make_trackers(recipe)
    ranks.join()
    return machine_of(recipe, purpose_of(verb))


@contextmanager
def run_or_new(
    run: Run | None, verb: str, recipe: Recipe, parent: Parent = None, asked: Mapping[str, JSON] | None = None
) -> Iterator[Run]:
    """Yield the given run, which its owner closes, or for None a new run that ends with the block.

    Every stage begins with this: a command passes its run, a notebook passes None::

        with run_or_new(run, "evaluate", recipe, source) as run:
            ...

    Args:
        run: The open run, or None.
        verb: The stage.
        recipe: The recipe of a new run.
        parent: As for ``start_run``.
        asked: As for ``start_run``.

    Raises:
        RushkitError: as for ``start_run``.
    """
    if run is not None:
        yield run
        return
    with start_run(verb, recipe, parent=parent, asked=asked) as new_run:
        yield new_run


def mirror_metrics(recipe: Recipe, run: Run) -> None:
    """Show the run's metrics to the recipe's trackers too. Raises UsageError if the package of one is missing."""
    study = run.about.study
    tracked = TrackedRun(
        folder=run.path,
        verb=run.verb,
        seed=run.about.seed,
        study=study.study if study else "",
        row=study.row if study else "",
        job=study.job if study else "",
        recipe=recipe.resolved(),
    )
    trackers = make_trackers(recipe).items()
    run.metrics.mirror_to(Mirror(name, tracker, tracked, run.speaker.warn) for name, tracker in trackers)


def make_trackers(recipe: Recipe) -> dict[str, Tracker]:
    """Return the recipe's trackers by name, not begun yet. Raises UsageError if the package of one is missing."""
    return {name: registries.trackers.create(name) for name in recipe.system.trackers}


def machine_of(recipe: Recipe, purpose: Purpose = "figures") -> Machine:
    """Return the device, the precision and whether to compile, as the recipe resolves on this machine.

    All ranks must call it: they take the precision that rank 0 chooses.
    """
    system = recipe.system
    asked = system.precision if ranks.rank() == 0 else "float32"
    machine = choose_machine(system.device, asked, system.compile, purpose)
    ranks.check_device(machine.device)
    precision, why = ranks.broadcast([machine.precision, machine.why])
    return replace(machine, precision=precision, why=why)


def machine_of_run(recipe: Recipe, run: Run) -> Machine:
    """Return the machine of a run, as ``machine_of`` does; but a run keeps the precision that it was begun in.

    A training that goes on in bf16 on a CPU without units for it warns of that.
    """
    purpose, kept = purpose_of(run.verb), run.about.precision
    if not kept:
        return machine_of(recipe, purpose)
    machine = choose_machine(recipe.system.device, kept, recipe.system.compile, purpose)
    ranks.check_device(machine.device)
    emulated = machine.device.type == "cpu" and not has_bf16_units(machine.device)
    if purpose == "training" and kept == "bf16" and emulated:
        run.speaker.warn(
            "the run trains in bf16, as it was begun, and this CPU has no units for that: a step takes several times "
            "as long as in float32, which only a new run can be begun in"
        )
    return machine


def purpose_of(verb: str) -> Purpose:
    """Return what the passes of a verb are for."""
    return _PURPOSES.get(verb, "figures")


def component_owners(recipe: Recipe) -> dict[str, str]:
    """Return the distribution that provides each component of the recipe, with its version if it is a plugin."""
    used = [
        (registries.datasets, recipe.data.name),
        (registries.backbones, recipe.backbone.name),
        (registries.noises, recipe.noise.name),
        (registries.objectives, recipe.pretrain.objective),
        (registries.objectives, recipe.finetune.objective),
    ]
    entries = [(registry.kind, registry.entry(name)) for registry, name in used]
    return {f"{kind} {entry.name}": f"{entry.owner} {entry.version}".strip() for kind, entry in entries}
