"""Certified robustness: CERTIFY of Cohen, Rosenfeld & Kolter 2019 over a split, resumable, from counts that are kept.

Some draws choose the class of an image, others bound its probability, and a theorem turns the bound into a radius. The
counts go to the run folder as they come; ``recertify`` redoes the radii from them without the network.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from rushkit.certification.claim import Claim, make_claim, mode_of, noise_words, training_warnings
from rushkit.certification.conclude import conclude
from rushkit.certification.counts import COUNTS_FILE, chosen_indices, marks
from rushkit.certification.draws import Job, draw_records
from rushkit.certification.log_checks import check_counts
from rushkit.certification.logged_counts import read_counts
from rushkit.distributed import ranks
from rushkit.errors import Interrupted, UsageError, shell_line
from rushkit.paths import read_text, reason
from rushkit.recipe.load import read_recipe
from rushkit.recipe.radius import norm_words
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.log import BlockLog
from rushkit.run.names import RECIPE_FILE
from rushkit.run.signals import graceful_stop
from rushkit.setup import components
from rushkit.setup.model import image_size_of, load_classifier
from rushkit.setup.start import machine_of, start_run
from rushkit.setup.subject import LowPrecision, check_classes, check_images, labels_of
from rushkit.system import Machine


def certify(recipe: Recipe, source: Checkpoint, run: Run | None = None) -> dict[str, Any]:
    """Certify a fine-tuned model on a split.

    Args:
        recipe: Sections data, noise, certify, system.
        source: A fine-tuned checkpoint.
        run: Takes counts, results and the table; one that was stopped goes on. None: a new one.

    Returns:
        What results.json holds; docs/certificates.md says what its keys mean.

    Raises:
        NoCertificate: the noise has no theorem for the norm.
        UsageError: settings that do not go together, or too few draws for alpha.
        RushkitError: the counts in the run are of another model, data, noise or seed.
        Interrupted: a signal asked to stop; the counts so far are kept.
    """
    if run is None:
        with start_run("certify", recipe, parent=str(source.path)) as run:
            return certify(recipe, source, run)
    machine, settings = machine_of(recipe), recipe.certify
    claim = claim_of(recipe, source)
    classifier = load_classifier(source, machine)
    dataset = components.build_dataset(recipe)
    whole = components.load_split(recipe, dataset, settings.split)
    labels_of(whole, len(classifier.classes))
    check_classes(recipe.data.name, dataset.classes, classifier.classes)
    check_images(whole, classifier.image_size)
    # A radius depends on the dimension: it is that of the images that are drawn for.
    claim = replace(claim, dim=math.prod(whole.images.shape[1:]))
    indices = chosen_indices(len(whole), settings)
    job = Job(
        model=classifier.network if machine.precision == "float32" else LowPrecision(classifier.network, machine),
        noise=claim.noise,
        split=whole.take(indices),
        indices=indices,
        seed=recipe.system.seed,
        classes=len(classifier.classes),
        batch=classifier.chunk(recipe.system.chunk),
        device=machine.device,
    )
    warnings = training_warnings(classifier.recipe, recipe, classifier.image_size, classifier.imported)
    subject = {
        **asked_subject(recipe),
        "model": source.hash,
        "precision": machine.precision,
        "images": _digest(job),
        "of": len(whole),
        "dim": claim.dim,
        "classes": list(classifier.classes),
        "samples": claim.samples,
        "mode": claim.mode,
        "warnings": warnings,
        "size": components.size_note(whole),
    }
    log = BlockLog(run.subfolder("counts") / COUNTS_FILE, subject, check_counts) if run.writes else None
    records = ranks.broadcast(None if log is None else log.records())
    for warning in warnings:
        run.speaker.warn(warning)
    run.speaker.say(_announce(claim, job, recipe, machine))
    if note := subject["size"]:
        run.speaker.say(f"note: {note}")
    before = sum(record["drawn"] for record in records)
    total = None if claim.mode == "sequential" else len(indices) * _draws_an_image(claim, settings.selection)
    with (
        graceful_stop(lambda name: run.speaker.say(f"{name}: stopping")) as stop,
        run.speaker.progress(total, "certify", "draws", start=before) as progress,
    ):

        def interrupt() -> None:
            raise Interrupted(
                f"stopped; the counts of {progress.done} draws are kept",
                f"go on with: {shell_line('rushkit', 'certify', '--resume', '--run', run.path)}",
            )

        def pause() -> None:
            # One of several ranks cannot stop by itself: the others would wait for its draws.
            if stop.requested and ranks.world() == 1:
                interrupt()

        job = replace(job, pause=pause)
        for record in draw_records(job, claim, settings.selection, settings.radii, records):
            # Ranks agree on the counts, not on the seconds.
            records.append(record)
            if log is not None:
                log.append(record)
            progress.advance(record["drawn"])
            if ranks.any_rank(stop.requested):
                interrupt()
    seal = ranks.broadcast(None if log is None else log.seal)
    return conclude(recipe, claim, subject, records, seal, run, str(source.path))


def recertify(recipe: Recipe, counts: Path, source: Checkpoint | None = None, run: Run | None = None) -> dict[str, Any]:
    """Redo the radii of a certification from its counts, without network and images.

    Args:
        recipe: That of the run, under another alpha, norm, bound, rule, radii, or fewer samples.
        counts: The run folder that has the counts; it is only read.
        source: The model that they must be of, or None.
        run: Takes results and the table. None: a new one.

    Returns:
        As ``certify``. Images whose draws were not finished are left out.

    Raises:
        UsageError: the counts are of another model, data, noise or seed, or lack what is asked for.
    """
    if run is None:
        with start_run("certify", recipe, parent=str(counts)) as run:
            return recertify(recipe, counts, source, run)
    claim, subject, records, seal = claim_of_counts(recipe, counts, source)
    run.speaker.say(f"certify from the counts of {counts}: no network and no draws; {_claim_words(claim)}")
    return conclude(recipe, claim, subject, records, seal, run, str(counts))


def claim_of(recipe: Recipe, source: Checkpoint, predicts: bool = False) -> Claim:
    """What ``certify`` or ``predict`` would claim, with every error that it can have before it draws."""
    noise = components.build_noise(recipe)
    dim = components.IN_CHANNELS * image_size_of(source) ** 2
    return make_claim(recipe.certify, noise, dim, mode_of(recipe.certify, noise), predicts)


def claim_of_counts(
    recipe: Recipe, counts: Path, source: Checkpoint | None = None
) -> tuple[Claim, dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """What ``recertify`` would claim, and the counts: their subject, the lines of the log and its seal."""
    subject, records, seal = read_counts(counts)
    settings = recipe.certify
    asked = asked_subject(recipe) | ({"model": source.hash} if source else {})
    wrong = [key for key, value in asked.items() if subject[key] != value]
    if wrong:
        shown = "; ".join(f"{key} {_brief(subject[key])} there, {_brief(asked[key])} here" for key in wrong)
        raise UsageError(
            f"the counts of {counts} are of another {' and another '.join(wrong)}: {shown}",
            "certify anew, without --from-counts",
        )
    mode, most = subject["mode"], subject["samples"]
    claim = make_claim(settings, components.build_noise(recipe), subject["dim"], mode)
    known = marks(most) if mode == "fixed" else [most]
    if (mode == "fixed" and claim.samples not in known) or claim.samples > most:
        raise UsageError(
            f"the counts of {counts} have no {claim.samples} draws an image",
            f"choose --samples from {', '.join(map(str, known))}, or certify anew",
        )
    return claim, subject, records, seal


def recipe_of_counts(counts: Path) -> Recipe:
    """The recipe that a run's counts were made by. Raises UsageError where there is no such run."""
    read_counts(counts)
    path = counts / RECIPE_FILE
    try:
        return read_recipe(read_text(path), str(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason(error)}", "name a whole run of `rushkit certify`") from error


def asked_subject(recipe: Recipe) -> dict[str, Any]:
    """What counts depend on, as far as a recipe tells."""
    settings = recipe.certify
    return {
        "data": recipe.data.model_dump(),
        "split": settings.split,
        "limit": settings.limit,
        "skip": settings.skip,
        "noise": recipe.noise.model_dump(),
        "seed": recipe.system.seed,
        "selection": settings.selection,
    }


def _digest(job: Job) -> str:
    """A hash over the images, their indices and labels."""
    digest = hashlib.blake2b(digest_size=16)
    assert job.split.labels is not None
    for array in (job.indices, job.split.labels, *job.split.images.split(1024)):
        digest.update(array.contiguous().numpy().data)
    return digest.hexdigest()


def _draws_an_image(claim: Claim, selection: int) -> int:
    return claim.samples + (selection if claim.mode == "fixed" else 0)


def _announce(claim: Claim, job: Job, recipe: Recipe, machine: Machine) -> str:
    chosen = "all" if recipe.certify.skip == 1 else f"every {recipe.certify.skip}th"
    return (
        f"certify {len(job.split)} images of {job.split.name} ({chosen}{', limited' * bool(recipe.certify.limit)}), "
        f"noise {noise_words(recipe)}, {_claim_words(claim)}; {machine}"
    )


def _claim_words(claim: Claim) -> str:
    norm = norm_words(claim.norm)
    if claim.mode == "splits":
        return f"{norm}, all {claim.samples} splits of each image, no chance of error"
    draws = "up to " * (claim.mode == "sequential") + str(claim.samples)
    return f"{norm}, {draws} draws an image, {claim.bound} bound on the {claim.rule} rule, alpha {claim.alpha:g}"


def _brief(value: Any) -> str:
    text = " ".join(map(str, value.values())) if isinstance(value, dict) else str(value)
    return text if len(text) < 40 else f"{text[:12]}..."
