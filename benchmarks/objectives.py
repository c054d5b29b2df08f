"""A training step of every objective that rushkit brings, beside the bare passes that it makes.

    OMP_NUM_THREADS=1 python benchmarks/objectives.py --backbone resnet18 --batch 16
    OMP_NUM_THREADS=1 python benchmarks/objectives.py --backbone resnet10-small --batch 256 pgd-at trades

Ours goes from uint8 images to new weights: views, draws, attack, loss, backward, optimizer. The bare passes are those
that the network was seen to make in such a step, on the same inputs, ready-made: forward alone, forward and backward
to the input, or forward, backward to the weights and optimizer. F is their cost for an image in forward passes, where
these three count 1, 2 and 3. The contestants take turns and each one's best round counts; on a CPU the ratios are of
processor time, which a busy machine distorts least. AdvCL learns random labels in the place of a clustering's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from ranges import show

from rushkit.errors import UsageError
from rushkit.objectives import LearnsLabels
from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Recipe
from rushkit.registries import objectives
from rushkit.registry import BUILTIN_OWNER
from rushkit.setup import components
from rushkit.setup.start import machine_of
from rushkit.speed.bench import BARE, race, step_contestants
from rushkit.system import Machine
from rushkit.training.finetune import finetuning_job
from rushkit.training.job import TrainingJob
from rushkit.training.labels import random_table
from rushkit.training.pretrain import pretraining_job
from rushkit.training.teacher import stand_in


def job_of(name: str, batch: int, changes: Sequence[str] = ()) -> tuple[TrainingJob, Machine]:
    """Return the training of an objective on real digits, with the default of each option that is not changed."""
    stage = objectives.get(name).stage  # type: ignore[attr-defined]
    given = [f"{stage}.objective={name}", f"{stage}.batch_size={batch}", "finetune.freeze=none", *changes]
    for noise in ("gaussian", "none"):
        recipe = load_recipe("digits", [f"noise.name={noise}", *(["noise.std=0.25"] * (noise == "gaussian")), *given])
        machine = machine_of(recipe, "training")
        try:
            if stage == "pretrain":
                return pretraining(recipe, machine), machine
            return finetuning_job(recipe, None, machine)[0], machine
        except UsageError:
            if noise == "none":
                raise
    raise AssertionError


def pretraining(recipe: Recipe, machine: Machine) -> TrainingJob:
    """Return a pre-training, with random labels in the place of a clustering's for an objective that learns them."""
    objective = components.build_objective(recipe, recipe.pretrain)
    table = None
    if isinstance(objective, LearnsLabels) and objective.learns_labels:
        section = recipe.pretrain.model_copy(update={"labels": "random"})
        recipe = recipe.model_copy(update={"pretrain": section})
        split = components.load_split(recipe, components.build_dataset(recipe), section.split)
        table = random_table(section, len(split))
    return pretraining_job(recipe, machine, teacher=stand_in(recipe), table=table)[0]


def main() -> None:
    """Measure and print the table."""
    builtin = [entry.name for entry in objectives.entries() if entry.owner == BUILTIN_OWNER]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objectives", nargs="*", metavar="NAME", help="none: all")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20, help="for each objective; at least three rounds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the recipe")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    changes = (f"backbone.name={arguments.backbone}", "data.image_size=32", *arguments.set)
    for name in arguments.objectives or builtin:
        job, machine = job_of(name, arguments.batch, changes)
        contestants, seen = step_contestants(job, machine)
        costs = race(contestants, arguments.seconds, machine)
        ours, bare = costs["ours"], costs[BARE]
        figures = {"F": seen.passes_an_image(arguments.batch), "s/step": ours.wall, "bare float32": bare.wall}
        show(
            f"objective {name}, {arguments.backbone}, batch {arguments.batch}",
            {machine.precision: figures | {"x bare float32 cost": ours.work / bare.work}},
        )


if __name__ == "__main__":
    main()
