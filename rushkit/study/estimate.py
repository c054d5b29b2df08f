"""What the jobs of a plan cost: passes of images through their networks, and from a short bench the time here.

A pass is one image forward through a network once. A backward pass to the input counts as one more, and one to the
weights as two. Those of views, of looks at the features and of validation are not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from rushkit.data import Dataset, describe
from rushkit.errors import RushkitError
from rushkit.image_size import sides, size_to_json
from rushkit.recipe.load import build_recipe
from rushkit.recipe.schema import Evaluate, Recipe
from rushkit.recipe.toml import Table
from rushkit.robustness.jobs import plan_jobs
from rushkit.robustness.meter import expected_passes
from rushkit.rounding import counted
from rushkit.setup import components
from rushkit.setup.networks import build_encoder
from rushkit.setup.start import machine_of
from rushkit.speed.bench import bench_job, race, step_contestants
from rushkit.study.cost import Cost
from rushkit.study.job import Job, Stage, canonical
from rushkit.system import Machine
from rushkit.training.bare_passes import COST, Seen
from rushkit.training.finetune import finetuning_job
from rushkit.training.job import TrainingJob

# Passes do not depend on the network: those of a step are counted on a small one, on two images.
_SMALL: Table = {"backbone": {"name": "resnet10-small"}, "system": {"device": "cpu", "precision": "float32"}}
_IMAGES = 2
# Images in the passes whose time is taken: the larger number where the smaller one is done in a moment.
_TIMED_IMAGES, _TIMED_SECONDS, _A_MOMENT = (2, 32), 0.2, 0.05
# Encoders that a probe compares, and the cost of a step of its ascent.
_PROBED, _ASCENT = 2, 3


@dataclass
class Estimator:
    """Estimates jobs; what two of them have in common is measured once.

    Attributes:
        timed: Whether to measure how long a pass takes here.
    """

    timed: bool = True
    _costs: dict[str, Cost] = field(default_factory=dict)
    _steps: dict[str, float | None] = field(default_factory=dict)
    _splits: dict[str, int | None] = field(default_factory=dict)
    _seconds: dict[str, float | None] = field(default_factory=dict)

    def cost(self, job: Job) -> Cost:
        """Return what a job costs; another seed and another parent cost the same."""
        alike = {key: value for key, value in job.computed().items() if key not in ("seed", "parents")}
        key = canonical(alike)
        if key not in self._costs:
            self._costs[key] = self._cost(job)
        return self._costs[key]

    @property
    def assumes(self) -> str:
        """What the times assume, in a sentence; empty where none was taken."""
        if not any(self._seconds.values()):
            return ""
        threads = counted(torch.get_num_threads(), "thread")
        return f"times assume that nothing else runs here; of a CPU they are processor time, with {threads} at work"

    def _cost(self, job: Job) -> Cost:
        try:
            recipe = build_recipe(_table(job.recipe))
            passes = self._passes(job, recipe)
        except RushkitError:
            return Cost()
        if passes is None or not self.timed:
            return Cost(passes)
        a_pass = self._a_pass(recipe)
        return Cost(passes, None if a_pass is None else passes * a_pass)

    def _passes(self, job: Job, recipe: Recipe) -> int | None:
        match job.stage:
            case "pretrain" | "finetune":
                return self._of_training(job.stage, recipe)
            case "cluster":
                return self._images(recipe, str(job.options.get("split", "train")))
            case "evaluate":
                section = recipe.evaluate
                images = self._images(recipe, section.split, section.limit, section.skip)
                return None if images is None else images * sum(set(section.samples)) * _looks(section)
            case "certify":
                settings = recipe.certify
                images = self._images(recipe, settings.split, settings.limit, settings.skip)
                return None if images is None else images * (settings.samples + settings.selection)
            case "attack":
                return self._of_attacks(job, recipe)
            case "probe":
                images = self._images(recipe, "test", _number(job.options.get("limit")))
                return None if images is None else images * _PROBED * _ASCENT * _number(job.options.get("steps"))
            case _:
                return None

    def _of_training(self, stage: Stage, recipe: Recipe) -> int | None:
        settings = recipe.pretrain if stage == "pretrain" else recipe.finetune
        images = self._images(recipe, settings.split)
        section = {key: value for key, value in settings.model_dump().items() if key not in ("epochs", "batch_size")}
        key = canonical([stage, section, recipe.noise.model_dump()])
        if key not in self._steps:
            self._steps[key] = passes_of_step(stage, recipe)
        step = self._steps[key]
        return None if images is None or step is None else round(images * settings.epochs * step)

    def _of_attacks(self, job: Job, recipe: Recipe) -> int | None:
        dataset = components.build_dataset(recipe)
        protocols = job.options.get("protocols")
        size, total = components.image_size(recipe, dataset), 0
        named = [name for name in protocols if isinstance(name, str)] if isinstance(protocols, list) else []
        for one in plan_jobs(recipe, dataset.classes, named, size):  # type: ignore[arg-type]
            images = self._images(recipe, one.section.split, one.section.limit, one.section.skip)
            expected = expected_passes(one.plan, one.section, one.m)
            search = expected.most if expected.likely is None else expected.likely
            if images is None or search is None:
                return None
            total += images * (search + expected.votes)
        return total

    def _images(self, recipe: Recipe, split: str, limit: int = 0, skip: int = 1) -> int | None:
        """Return the number of images of a split; None where they are not here."""
        key = canonical([recipe.data.model_dump(), split])
        if key not in self._splits:
            try:
                dataset = components.build_dataset(recipe)
                here = _is_here(recipe, dataset)
                self._splits[key] = components.count_images(recipe, dataset, split) if here else None
            except RushkitError:
                self._splits[key] = None
        images = self._splits[key]
        if images is None:
            return None
        images = -(-images // skip)
        return min(images, limit) if limit else images

    def _a_pass(self, recipe: Recipe) -> float | None:
        """Return the seconds of a forward pass of an image through the recipe's encoder on its device."""
        if recipe.model is not None:
            # Planning runs no code of somebody's.
            return None
        key = canonical([recipe.backbone.model_dump(), size_to_json(recipe.data.size), recipe.data.name])
        if key not in self._seconds:
            try:
                self._seconds[key] = _seconds_a_pass(recipe)
            except RushkitError:
                self._seconds[key] = None
        return self._seconds[key]


def _is_here(recipe: Recipe, dataset: Dataset) -> bool:
    """Return whether the splits of a data set can be read as they are: reading one would download what is missing."""
    data = recipe.data
    return not getattr(dataset, "url", "") or describe(data.name, recipe.system.data_dir, **data.options).ready


def passes_of_step(stage: Stage, recipe: Recipe) -> float | None:
    """Return the passes of a training step for each image of its batch; None where a step cannot be made here.

    Args:
        stage: ``"pretrain"`` or ``"finetune"``.
        recipe: The recipe; its step is made with a small network, on images of the embedded digits.
    """
    table = recipe.resolved() | _SMALL | {"data": {"name": "digits", "image_size": 16, "limit": 16}}
    section = _table(table[stage]) | {"batch_size": _IMAGES}
    if stage == "finetune":
        section |= {"labels": "", "labels_clusters": [], "head_start": "random"}
        for key in ("extra", "validation", "average"):
            section.pop(key)
    try:
        small = build_recipe(table | {stage: section})
        machine = machine_of(small, "training")
        job = bench_job(small, machine)[0] if stage == "pretrain" else finetuning_job(small, None, machine)[0]
        _, seen = step_contestants(job, machine)
    except (RushkitError, ValueError, RuntimeError):
        # What is wrong with it, the job itself says.
        return None
    return _passes_an_image(seen, job)


def _passes_an_image(seen: Seen, job: TrainingJob) -> float:
    """Return the cost of a step for an image; to the weights of a head alone, no pass goes back through the encoder."""
    trains = any(weight.requires_grad for weight in job.network.encoder.parameters())
    cost = {**COST, "weights": COST["weights"] if trains else COST["forward"]}
    return sum(cost[one.kind] * len(one.x) for group in seen.groups for one in group) / _IMAGES


def _seconds_a_pass(recipe: Recipe) -> float:
    machine = machine_of(recipe)
    channels, size = components.image_shape(recipe, components.build_dataset(recipe))
    encoder = build_encoder(recipe, (channels, size)).eval().to(machine.device)
    a_pass = 0.0
    for images in _TIMED_IMAGES:
        x = torch.rand(images, channels, *sides(size), device=machine.device)
        seconds = _race(encoder, x, machine)
        a_pass = seconds / images
        if seconds > _A_MOMENT:
            break
    return a_pass


@torch.no_grad()
def _race(encoder: torch.nn.Module, x: torch.Tensor, machine: Machine) -> float:
    """Return the seconds of the fastest pass on a device that does nothing else.

    On a CPU that is its processor time over all threads: by the clock, a pass is as slow as the machine is busy.
    """
    cost = race({"once": lambda: encoder(x)}, _TIMED_SECONDS, machine)["once"]
    return cost.work / (torch.get_num_threads() if machine.device.type == "cpu" else 1)


def _table(value: object) -> Table:
    assert isinstance(value, dict)
    return value


def _looks(section: Evaluate) -> int:
    """Return how often an evaluation looks at an image: as it is, corrupted, and at the points of a grid of shifts."""
    points = math.prod(section.grid) + 1 if section.shift else 0
    return 1 + len(section.corruptions) * len(section.strengths) + points


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
