"""Is the robustness real? Measures what the checks need, on a few images, and says which of them hold.

Each measurement is kept as soon as it is there: a stopped audit goes on where it was. Several ranks deal the
measurements out among themselves.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import torch

from rushkit.auditing.checks import check_all
from rushkit.auditing.measure import Measured, Point, Session, measure
from rushkit.auditing.plan import Settings, passes
from rushkit.bar import Progress
from rushkit.data.memory import limit
from rushkit.distributed import ranks
from rushkit.errors import Interrupted, shell_line
from rushkit.files import plain_json
from rushkit.recipe.radius import ball_words, check_eps
from rushkit.recipe.schema import Attack, Recipe
from rushkit.rounding import duration
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.names import SUFFIX
from rushkit.run.partial import Partial
from rushkit.run.signals import Stop, graceful_stop
from rushkit.setup import components
from rushkit.setup.model import load_classifier
from rushkit.setup.start import machine_of, start_run
from rushkit.setup.subject import LowPrecision, check_classes, check_images, fingerprint_of, labels_of, smoothed
from rushkit.smoothing import SmoothedClassifier

# Images in the pass that tells how long everything will take.
_TIMED = 128
# What a measurement's file is called while the audit runs.
_KEPT = "audit."


def audit(
    recipe: Recipe,
    source: Checkpoint,
    settings: Settings | None = None,
    run: Run | None = None,
    images: int = 64,
    samples: int = 0,
) -> dict[str, Any]:
    """Check a fine-tuned model's robustness against the checklist of a trustworthy evaluation.

    Args:
        recipe: Sections data, noise, attack (for the split and m), system.
        source: A fine-tuned checkpoint.
        settings: Norm, eps and budgets; None: the ball of the recipe's first attack, and the usual budgets.
        run: Takes results.json, and each measurement until then; one that was stopped goes on. None: a new one.
        images: How many images of the split; 0: all.
        samples: m; 0: the largest of the recipe's first attack.

    Returns:
        What results.json holds: ``checks``, with code, status, sentence and figures, and the sweeps behind them.

    Raises:
        Interrupted: a signal asked to stop; what is measured is kept.
    """
    if settings is None:
        ball = recipe.attack[0] if recipe.attack else Attack()
        settings = audit_settings(ball.norm, ball.eps, recipe.system.seed)
    if run is None:
        with start_run("audit", recipe, parent=str(source.path)) as run:
            return audit(recipe, source, settings, run, images, samples)
    machine = machine_of(recipe)
    classifier = load_classifier(source, machine)
    section = recipe.attack[0] if recipe.attack else None
    dataset = components.build_dataset(recipe)
    split = components.load_split(recipe, dataset, section.split if section else "test")
    split = limit(split, images)
    y = labels_of(split, len(classifier.classes)).to(machine.device)
    check_classes(recipe.data.name, dataset.classes, classifier.classes)
    check_images(split, classifier.image_size)
    x = components.to_float(split.images.to(machine.device))
    check_eps(settings.norm, settings.eps, x[0].numel())
    m = samples or (max(section.samples) if section else 1)
    g = smoothed(classifier.network, components.build_noise(recipe), m, classifier.chunk(recipe.system.chunk), machine)
    encoder = classifier.network.encoder
    features = encoder if machine.precision == "float32" else LowPrecision(encoder, machine)
    total = passes(settings, m, len(classifier.classes), x.shape)
    seconds = total * _seconds_a_pass(g, x) / ranks.world()
    run.speaker.say(
        f"audit {source.path}: {len(x)} images of {split.name}, {ball_words(settings.norm, settings.eps)}, m = {m}, "
        f"noise {recipe.noise.name}; {settings.steps} steps and {settings.eot} draws a gradient, sweeps up to twice as "
        f"many; about {total:.2g} passes, about {duration(seconds)}; {machine}"
    )
    if note := components.size_note(split):
        run.speaker.say(f"note: {note}")
    subject = {
        "model": source.hash,
        "precision": machine.precision,
        "data": split.name,
        "content": fingerprint_of(split),
        "noise": recipe.noise.model_dump(),
        "samples": m,
        "settings": plain_json(asdict(settings), "settings"),
    }
    with (
        graceful_stop(lambda name: run.speaker.say(f"{name}: stopping after this measurement")) as stop,
        run.speaker.progress(total, "audit", "passes") as bar,
    ):
        found = measure(g, x, y, settings, features, _session(run, subject, stop, bar))
    results = {
        "stage": "audit",
        "recipe": recipe.name,
        "source": str(source.path),
        "data": split.name,
        "noise": recipe.noise.model_dump(),
        "samples": m,
        "settings": asdict(settings),
        "size": note,
        "checks": [asdict(check) for check in check_all(found)],
        **_figures(found),
    }
    results = run.write_results(results)
    if run.writes:
        for path in run.subfolder("counts").glob(f"{_KEPT}*{SUFFIX}"):
            path.unlink()
    return results


def failed(results: dict[str, Any]) -> list[str]:
    """The codes of the checks that failed."""
    return [check["code"] for check in results["checks"] if check["status"] == "fail"]


def audit_settings(norm: str, eps: float, seed: int, **budgets: int | None) -> Settings:
    """Settings with the budgets that are given; the others are the defaults. Raises UsageError as ``Settings`` does."""
    given = {name: value for name, value in budgets.items() if value is not None}
    return Settings(norm, eps, seed=seed, **given)  # type: ignore[arg-type]


def _session(run: Run, subject: dict[str, Any], stop: Stop, bar: Progress) -> Session:
    """Keeps measurements of this subject in the run's folder, and shows on the bar how far they are."""
    folder = run.subfolder("counts")

    def begin(own: int) -> None:
        bar.total = own

    def advance(label: str, done: int) -> None:
        bar.advance(done)
        run.speaker.detail(f"measured: {label}")

    def interrupt() -> None:
        raise Interrupted(
            "stopped; the measurements that are done are kept",
            f"go on with: {shell_line('rushkit', 'audit', '--resume', '--run', run.path)}",
        )

    return Session(
        begin=begin,
        advance=advance,
        partial=lambda number: Partial(folder / f"{_KEPT}{number:02d}{SUFFIX}", subject),
        stopped=lambda: stop.requested,
        interrupt=interrupt,
    )


def _figures(found: Measured) -> dict[str, Any]:
    """What was measured, as results.json holds it."""
    sweeps = {"steps": found.steps, "eot": found.draws, "eps": found.radii, "losses": found.losses}
    single = {
        "clean": found.clean,
        "fixed": found.fixed,
        "single_step": found.single,
        "random_noise": found.noise,
        "square": found.black_box,
        "best": found.best,
    }
    return {
        "images": found.images,
        "attacked": list(found.attacked),
        "sweeps": {name: [_point(point) for point in points] for name, points in sweeps.items()},
        "attacks": {name: _point(point) for name, point in single.items() if point is not None},
        "loss_curve": list(found.curve),
        "gradients": None if found.gradients is None else asdict(found.gradients),
    }


def _point(point: Point) -> dict[str, Any]:
    return {**asdict(point), "accuracy": point.accuracy}


def _seconds_a_pass(g: SmoothedClassifier, x: torch.Tensor) -> float:
    """Seconds that a forward pass of one image takes, by one that warms up and one that is timed."""
    draws = max(1, _TIMED // len(x))
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        g.tally(x[:_TIMED], draws).votes.cpu()
        seconds = time.perf_counter() - started
    return seconds / (draws * len(x[:_TIMED]))
