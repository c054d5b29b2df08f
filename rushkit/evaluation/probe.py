"""Measure how far an encoder's features move when the image moves: the local Lipschitz ratio (RUSH, section 4.1).

For a test image x the ratio is ‖f(x) − f(x')‖₂ / ‖x − x'‖₂ with features of unit length. The second image x' is drawn
at random from a ball around x, or found by gradient ascent on the feature distance. Several ranks share the blocks of
images between them; the draws of a block depend only on its position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rushkit.attacks import Norm
from rushkit.attacks.norms import ascent, length, project, random_start
from rushkit.data.memory import Split
from rushkit.distributed import ranks
from rushkit.errors import NumericsError, UsageError, shell_line
from rushkit.recipe.radius import ball_words, check_eps
from rushkit.recipe.schema import Recipe
from rushkit.recipe.variant import base_name
from rushkit.results.evaluation import Probe, RatioRow
from rushkit.rounding import counted
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.setup import components, networks
from rushkit.setup.given import GivenModel
from rushkit.setup.model import image_size_of, load_encoder, recipe_of, shape_of
from rushkit.setup.start import machine_of_run, run_or_new
from rushkit.setup.subject import check_images
from rushkit.system import Machine, derived_seed, generator

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Random points for each image; the image's ratio is the mean over them.
_POINTS = 8
_BLOCK = 64
_RESAMPLES = 2000
_CONFIDENCE = 0.95
# At shorter distances the rounding error of the features exceeds their difference.
_SHORTEST = 1e-5

Floats = NDArray[np.float64]
# How the second image of a pair is found.
Points = Literal["random", "ascent"]


@dataclass(frozen=True)
class Ball:
    """The ball around an image in which x' is searched for.

    Attributes:
        norm: Norm of the ball; the distances in the ratio are always l2.
        eps: Radius, pixel units.
        steps: Gradient ascent steps.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    steps: int = 20

    def __post_init__(self) -> None:
        if not self.eps > 0 or self.steps < 1:
            raise UsageError(
                f"a probe needs a ball and steps: eps above 0 and steps at least 1 (got {self.eps:g}, {self.steps})",
                "for example --eps 8/255 --steps 20",
            )
        check_eps(self.norm, self.eps)


def probe(
    recipe: Recipe,
    source: Checkpoint,
    ball: Ball | None = None,
    run: Run | None = None,
    images: int = 256,
    supervised: Checkpoint | None = None,
    skip: int = 1,
) -> Probe:
    """Measure the local Lipschitz ratios of a pre-trained encoder, a random one and optionally a supervised one.

    Args:
        recipe: The recipe of the source; the sections data, backbone and system are used.
        source: The checkpoint whose encoder is measured, or a module of the user's, whose outputs are.
        ball: The ball that x' lies in; None means 8/255 in l-inf.
        run: The run that results.json is written to; None starts a new one.
        images: Number of test images; 0 means all.
        supervised: A checkpoint that was fine-tuned with ``finetune.freeze = "none"``; None leaves its row out.
        skip: Only every ``skip``-th test image, before ``images`` of them are chosen.

    Returns:
        The contents of results.json, where ``rows`` has the mean, interval and quantiles for each encoder and way to
        find x'.

    Raises:
        UsageError: the supervised encoder has another architecture, or was frozen.
    """
    ball = ball or Ball()
    with run_or_new(run, "probe", recipe, source) as run:
        machine = machine_of_run(recipe, run)
        split = _test_split(recipe, images, skip)
        check_images(split, shape_of(source))
        encoders = {name: encoder.to(machine.device) for name, encoder in encoders_of(source, supervised).items()}
        run.speaker.say(
            f"probe {source.path}: {counted(len(split), 'image')} of {split.name}, {ball_words(ball.norm, ball.eps)}, "
            f"{_POINTS} random points and {counted(ball.steps, 'step')} of ascent an image, "
            f"for {', '.join(encoders)}; {machine}"
        )
        if size := components.size_note(split):
            run.speaker.say(f"note: {size}")
        outcomes = _ratios_of_all(encoders, split, ball, recipe.system.seed, run, machine)
        bootstrap = derived_seed(recipe.system.seed, "bootstrap")
        results = Probe(
            recipe=recipe.name,
            source=str(source.path),
            supervised=str(supervised.path) if supervised else None,
            data=split.name,
            images=len(split),
            size=size,
            norm=ball.norm,
            eps=ball.eps,
            steps=ball.steps,
            rows=[summary(name, points, np.array(ratios), bootstrap) for (name, points), ratios in outcomes.items()],
            outcomes={f"{name} {points}": ratios for (name, points), ratios in outcomes.items()},
        )
        return run.write_results(results)


def _ratios_of_all(
    encoders: dict[str, nn.Module], split: Split, ball: Ball, seed: int, run: Run, machine: Machine
) -> dict[tuple[str, Points], list[float]]:
    """Return the ratios of all images by encoder and way to find x'. The ranks share the blocks between them."""
    blocks = [(name, start) for name in encoders for start in range(0, len(split), _BLOCK)]

    def ratios_of(block: tuple[str, int]) -> dict[Points, list[float]]:
        name, start = block
        x = components.to_float(split.images[start : start + _BLOCK].to(machine.device))
        ratios = lipschitz_ratios(encoders[name], x, ball, derived_seed(seed, "probe", start))
        return {points: values.tolist() for points, values in ratios.items()}

    ratios: dict[tuple[str, Points], list[float]] = {}
    with run.speaker.progress(len(split) * len(encoders), "probe", "images") as bar:
        for (name, start), of_block in zip(blocks, ranks.in_rounds(ratios_of, blocks), strict=True):
            for points, values in of_block.items():
                ratios.setdefault((name, points), []).extend(values)
            bar.advance(min(_BLOCK, len(split) - start))
    return ratios


def encoders_of(source: Checkpoint, supervised: Checkpoint | None) -> dict[str, nn.Module]:
    """Return the encoders to compare, in eval mode, by name: the source's, a random one, and the supervised one if any.

    All have the architecture of the source's encoder. A module of the user's stands alone: nothing tells how to draw
    its weights anew.

    Raises:
        UsageError: the supervised encoder has another architecture, or was frozen.
        CheckpointError: a checkpoint does not fit its own recipe.
    """
    if isinstance(source, GivenModel):
        return {"given": source.network}
    recipe = recipe_of(source)
    random = networks.build_encoder(recipe, shape_of(source))
    encoders = {"pre-trained": load_encoder(source), "random": random.eval().requires_grad_(False)}
    if supervised is None:
        return encoders
    other = recipe_of(supervised)
    if supervised.meta.get("stage") != "finetune" or other.finetune.freeze != "none":
        raise UsageError(
            f"{supervised.path} is no supervised encoder: its encoder was not trained on labels",
            how_to_supervise(recipe),
        )
    for what, theirs, ours in (
        ("backbone", other.backbone.model_dump(), recipe.backbone.model_dump()),
        ("image size", image_size_of(supervised), image_size_of(source)),
    ):
        if theirs != ours:
            raise UsageError(f"{supervised.path} has another {what}: {theirs}, not {ours}", how_to_supervise(recipe))
    return encoders | {"supervised": load_encoder(supervised)}


def how_to_supervise(recipe: Recipe) -> str:
    """Return the hint with the command that makes a supervised encoder of the same architecture."""
    # A recipe that trains all weights by itself keeps its name, which its pre-training has as well.
    run = f"{recipe.name}-supervised" if recipe.finetune.freeze != "none" else "RUN, the folder that it prints"
    start = shell_line("rushkit", "finetune", "--recipe", base_name(recipe.name))
    return f"make one with: {start} --set finetune.freeze=none, and name it: --supervised {run}"


def lipschitz_ratios(encoder: nn.Module, x: Tensor, ball: Ball, seed: int, unit: bool = True) -> dict[Points, Floats]:
    """Return the ratio of each image for ``random`` x' (the mean over 8 points) and for ``ascent`` (the largest seen).

    Args:
        encoder: (N, C, H, W) -> (N, F); it is used in the mode that it is in.
        x: (N, C, H, W) images in [0, 1].
        ball: The ball that x' lies in; x' also stays within [0, 1].
        seed: Seeds every draw.
        unit: Whether to scale the features to unit length first.

    Raises:
        NumericsError: the features are not finite.
    """

    def features_of(images: Tensor) -> Tensor:
        features = encoder(images).double()
        if not torch.isfinite(features).all():
            raise NumericsError("the encoder returned NaN or infinite features", "look for diverged training")
        return torch.nn.functional.normalize(features, dim=1, eps=1e-30) if unit else features

    def ratio(moved: Tensor, points: Tensor) -> Tensor:
        distance = length(points.double() - x.double(), "l2")
        return torch.where(distance > _SHORTEST, length(moved - here, "l2") / distance.clamp(min=_SHORTEST), 0.0)

    with torch.no_grad():
        here = features_of(x)
        random = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for point in range(_POINTS):
            points = random_start(x, ball.norm, ball.eps, generator(seed, "probe point", point, device=x.device))
            random += ratio(features_of(points), points) / _POINTS
    points = random_start(x, ball.norm, ball.eps, generator(seed, "probe start", device=x.device))
    best = torch.zeros_like(random)
    for step in range(ball.steps + 1):
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            moved = features_of(points)
            (gradient,) = torch.autograd.grad((moved - here).square().sum(), points)
        best = torch.maximum(best, ratio(moved.detach(), points.detach()))
        # The step shrinks from eps/2 to eps/20: long steps explore, short ones refine.
        size = ball.eps * (0.5 - 0.45 * step / ball.steps)
        points = project(x, points.detach() + ascent(gradient, ball.norm, size), ball.norm, ball.eps)
    return {"random": random.cpu().numpy(), "ascent": best.cpu().numpy()}


def summary(encoder: str, points: Points, values: Floats, seed: int) -> RatioRow:
    """Return the mean of an encoder's ratios, its 95% bootstrap interval over images, and their quantiles."""
    chance = np.random.default_rng(seed)
    means = [values[chance.integers(len(values), size=len(values))].mean() for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return RatioRow(
        encoder=encoder,
        points=points,
        images=len(values),
        mean=float(values.mean()),
        low=float(low),
        high=float(high),
        quantiles={f"{level:g}": float(np.quantile(values, level)) for level in QUANTILES},
        largest=float(values.max()),
    )


def _test_split(recipe: Recipe, images: int, skip: int) -> Split:
    dataset = components.build_dataset(recipe)
    name = "test" if "test" in dataset.splits else dataset.splits[-1]
    return components.load_split(recipe, dataset, name, limit=images, skip=skip)
