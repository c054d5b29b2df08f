"""Opening the run of a stage: its folder, what run.json tells, and the first lines on the screen."""

from __future__ import annotations

from rushkit import registries
from rushkit.recipe import toml
from rushkit.recipe.components import check_components
from rushkit.recipe.schema import Recipe
from rushkit.run.environment import environment
from rushkit.run.folder import Run
from rushkit.run.progress import Speaker
from rushkit.system import Machine, choose_machine


def start_run(verb: str, recipe: Recipe, speaker: Speaker | None = None, parent: str | None = None) -> Run:
    """Check the recipe's components and make the run's folder.

    Args:
        verb: The stage.
        recipe: All of it goes into the folder.
        speaker: Where sentences go.
        parent: The run or checkpoint that this one builds on.

    Raises:
        UsageError: a component or an option is unknown, or the device cannot be had.
        RushkitError: the folder cannot be made.
    """
    check_components(recipe)
    machine = machine_of(recipe)
    info = environment() | {
        "device": str(machine.device),
        "precision": machine.precision,
        "machine": str(machine),
        "seed": recipe.system.seed,
        "owners": component_owners(recipe),
        "parent": parent,
    }
    return Run.create(recipe.system.runs_dir, verb, recipe.name, info, toml.dumps(recipe.resolved()), speaker)


def machine_of(recipe: Recipe) -> Machine:
    """The device and precision that the recipe stands for on this machine."""
    return choose_machine(recipe.system.device, recipe.system.precision)


def component_owners(recipe: Recipe) -> dict[str, str]:
    """Who brings each component of the recipe, with the version where it is a plugin."""
    used = [
        (registries.datasets, recipe.data.name),
        (registries.backbones, recipe.backbone.name),
        (registries.noises, recipe.noise.name),
        (registries.objectives, recipe.pretrain.objective),
        (registries.objectives, recipe.finetune.objective),
    ]
    entries = [(registry.kind, registry.entry(name)) for registry, name in used]
    return {f"{kind} {entry.name}": f"{entry.owner} {entry.version}".strip() for kind, entry in entries}
