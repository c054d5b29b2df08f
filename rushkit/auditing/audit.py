"""Audit whether a model's robustness is real: make the measurements that the checks need, and run the checks.

Each measurement is stored as soon as it is finished, so a stopped audit can resume where it was. Several ranks share
the measurements between them.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from rushkit.auditing.checks.checklist import check_all
from rushkit.auditing.given import Given, check_claim
from rushkit.auditing.kept import KeptOutcomes
from rushkit.auditing.measure import Measured, Point, measure
from rushkit.auditing.plan import Settings, plugin_rival
from rushkit.auditing.training_images import TrainingImages, training_images
from rushkit.files import JSON, plain_json
from rushkit.recipe.radius import ball_words, check_eps
from rushkit.recipe.schema import Attack, Recipe
from rushkit.results.auditing import Audit, AuditAttacks, AuditGradients, AuditPoint, AuditSettings, AuditSweeps
from rushkit.rounding import counted, duration
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.setup import components
from rushkit.setup.resumable import Work, resumable
from rushkit.setup.start import run_or_new
from rushkit.setup.subject import Subject
from rushkit.smoothing import SmoothedClassifier


def audit(
    recipe: Recipe,
    source: Checkpoint,
    settings: Settings | None = None,
    run: Run | None = None,
    images: int = 64,
    samples: int = 0,
    claim: float | None = None,
) -> Audit:
    """Check a fine-tuned model's robustness against the checklist of a trustworthy evaluation.

    Example::

        results = audit(load_recipe("cifar10"), open_checkpoint("cifar10", "finetune"))
        for check in results.checks:
            print(check.code, check.status, check.says)

    Args:
        recipe: The sections data, noise, attack (for the split and m) and system are used.
        source: A fine-tuned checkpoint.
        settings: Norm, eps and budgets; None means the ball of the recipe's first attack, and the default budgets.
        run: The run that measurements and results.json are written to; a stopped run is resumed. None starts a new one.
        images: Number of images of the split; 0 means all.
        samples: m; 0 means the largest m of the recipe's first attack.
        claim: The share of all images that is said to stay right under attack; None if nothing is claimed.

    Returns:
        The contents of results.json, with ``checks`` (code, status, sentence and figures of each) and the sweeps behind
        them.

    Raises:
        Interrupted: a signal asked to stop; finished measurements are kept.
        UsageError: the claim lies outside [0, 1].
    """
    check_claim(claim)
    section = recipe.attack[0] if recipe.attack else None
    settings = settings or _default_settings(section, recipe.system.seed)
    with run_or_new(run, "audit", recipe, source) as run:
        split, skip = (section.split, section.skip) if section else ("test", 1)
        subject = Subject.open(recipe, source, split=split, limit=images, skip=skip, run=run)
        x, y = subject.batch(slice(None))
        check_eps(settings.norm, settings.eps, x[0].numel())
        g = subject.attacked(samples or (max(section.samples) if section else 1))
        run.speaker.say(_announcement(subject, recipe.noise.name, settings, g))
        if size := components.size_note(subject.split):
            run.speaker.say(f"note: {size}")
        training = training_images(recipe, source, subject, split)
        given = _given(subject, training, claim)
        kept = KeptOutcomes(run, _outcomes_depend_on(subject, recipe, settings, g.samples, training.fingerprint))
        with resumable(
            run,
            None,
            verb="audit",
            label="audit",
            unit="passes",
            total=None,
            kept=lambda done: "the measurements that are done are kept",
            notice="stopping after this measurement",
        ) as work:
            measured = measure(g, x, y, settings, given, work, kept, partial(_announce_passes, work))
        results = Audit(
            recipe=recipe.name,
            source=str(source.path),
            data=subject.split.name,
            noise=recipe.noise,
            search_precision=subject.machine.search_precision,
            samples=g.samples,
            settings=AuditSettings(**asdict(settings)),
            claim=claim,
            size=size,
            checks=check_all(measured),
            images=measured.images,
            attacked=list(measured.attacked),
            sweeps=_sweeps(measured),
            attacks=_attacks(measured),
            loss_curve=list(measured.curve),
            gradients=_gradients(measured),
            passes=measured.passes,
            announced=measured.announced,
        )
        results = run.write_results(results)
        if run.writes:
            kept.clear()
        return results


def failed(results: Audit) -> list[str]:
    """Return the codes of the checks that failed."""
    return [check.code for check in results.checks if check.status == "fail"]


def audit_settings(norm: str, eps: float, seed: int, **budgets: int | None) -> Settings:
    """Return settings with the given budgets; None means the default. Raises UsageError as ``Settings`` does."""
    given = {name: value for name, value in budgets.items() if value is not None}
    return Settings(norm, eps, seed=seed, **given)  # type: ignore[arg-type]


def _default_settings(section: Attack | None, seed: int) -> Settings:
    """Return the default budgets on the ball of an attack, or on the default ball."""
    ball = section or Attack()
    return audit_settings(ball.norm, ball.eps, seed)


def _given(subject: Subject, training: TrainingImages, claim: float | None) -> Given:
    """Return what is known of the subject beside the model and the images."""
    return Given(
        features=subject.classifier.features,
        classes=len(subject.classifier.classes),
        training=training.pair,
        why_no_training=training.why_none,
        claim=claim,
    )


def _announcement(subject: Subject, noise: str, settings: Settings, g: SmoothedClassifier) -> str:
    return (
        f"audit {subject.classifier.checkpoint.path}: {counted(len(subject), 'image')} of {subject.split.name}, "
        f"{ball_words(settings.norm, settings.eps)}, m = {g.samples}, noise {noise}; "
        f"{counted(settings.steps, 'step')} and {counted(settings.eot, 'draw')} a gradient, "
        f"sweeps up to twice as many; {subject.machine.in_attacks}"
    )


def _announce_passes(work: Work, passes: int, seconds: float) -> None:
    """Say what the audit costs, as soon as the images that it attacks are known."""
    work.speaker.say(f"{passes} passes, about {duration(seconds)}")


def _outcomes_depend_on(
    subject: Subject, recipe: Recipe, settings: Settings, samples: int, training: str
) -> dict[str, JSON]:
    """Return everything that the outcomes depend on; resuming requires that none of it has changed."""
    return {
        "model": subject.classifier.checkpoint.hash,
        "precision": subject.machine.search_precision,
        "data": subject.split.name,
        "content": subject.fingerprint(),
        "training": training,
        "noise": recipe.noise.model_dump(),
        "samples": samples,
        "settings": plain_json(asdict(settings), "settings"),
        "plugin": plugin_rival(settings.norm),
    }


def _point(point: Point) -> AuditPoint:
    return AuditPoint(label=point.label, value=point.value, share=list(point.share), accuracy=point.accuracy)


def _sweeps(measured: Measured) -> AuditSweeps:
    steps, eot, eps, losses = (
        [_point(point) for point in measured.points[place]] for place in ("steps", "draws", "radii", "losses")
    )
    return AuditSweeps(steps=steps, eot=eot, eps=eps, losses=losses)


def _attacks(measured: Measured) -> AuditAttacks:
    """Return the accuracies that belong to no sweep."""
    alone: dict[str, Point | None] = {
        "clean": measured.clean,
        "fixed": measured.rival("fixed"),
        "single_step": measured.rival("single"),
        "random_noise": measured.rival("noise"),
        "square": measured.rival("black_box"),
        "apgd": measured.rival("step_rule"),
        "training": measured.rival("training"),
        "second_opinion": measured.second_opinion,
        "best": measured.best,
        "strongest": measured.strongest,
    }
    return AuditAttacks(
        # Of the training images none may have been right at first.
        **{name: _point(point) for name, point in alone.items() if point is not None and point.share},
        targeted=[_point(point) for point in measured.points["targeted"]],
        minimum_norm=[_point(point) for point in measured.points["minimum_norm"]],
    )


def _gradients(measured: Measured) -> AuditGradients | None:
    gradients = measured.gradients
    if gradients is None:
        return None
    return AuditGradients(
        zero=list(gradients.zero),
        zero_entries=gradients.zero_entries,
        cosines=list(gradients.cosines),
        saturated=gradients.saturated,
        not_finite=list(gradients.not_finite),
    )
