"""Classify image files by PREDICT of Cohen, Rosenfeld & Kolter 2019, which may abstain, with certified radii."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from rushkit.certificates import ABSTAIN
from rushkit.certification.caveats import explanation, training_warnings
from rushkit.certification.draws import MOST_DRAWS, Sampler
from rushkit.certification.image_files import InputImage, image_files, pixel_seed, read_images
from rushkit.certification.procedure import Verdict
from rushkit.certification.procedures import choose_image_procedure
from rushkit.data.memory import Split
from rushkit.distributed import ranks
from rushkit.errors import UsageError
from rushkit.noises import theorem_of
from rushkit.recipe.schema import Recipe
from rushkit.results.prediction import PredictedImage, Prediction
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.speaker import Speaker
from rushkit.setup.components import build_noise, image_form
from rushkit.setup.model import check_one_function, load_classifier, values_of
from rushkit.setup.start import machine_of
from rushkit.setup.subject import in_precision


def predict(
    recipe: Recipe, source: Checkpoint, images: Sequence[str | Path], speaker: Speaker | None = None
) -> Prediction:
    """Classify image files, each with a class or an abstention, bounds on its probability, and a certified radius.

    The draws of an image depend only on its pixels and the seed, so its answer does not depend on the other images.
    Several ranks share the draws of each image.

    Args:
        recipe: The sections noise, certify (norm, samples, selection, alpha, bound, rule, two_class) and system are
            used.
        source: A fine-tuned checkpoint.
        images: Files, and folders, which are searched recursively for image files.
        speaker: Prints warnings and progress; None prints to the terminal.

    Returns:
        The settings, ``predictions`` for the images that can be read, and ``unreadable`` with the others.

    Raises:
        UsageError: there are no images or too many draws to count, or settings are invalid as for ``certify``.
        DataError: none of the images can be read.
    """
    ranks.join()
    check_one_function(source)
    speaker = speaker or Speaker()
    noise, dim = build_noise(recipe), values_of(source)
    procedure, machine = choose_image_procedure(recipe.certify, noise, dim, predicts=True), machine_of(recipe)
    claim = procedure.claim
    if (draws := max(procedure.selection, claim.samples)) > MOST_DRAWS:
        raise UsageError(f"{draws} draws of one image are more than can be counted", f"ask for {MOST_DRAWS} at most")
    classifier = load_classifier(source, machine)
    # All are read first: what is wrong with one shows before the draws of the others, and costs none of them.
    pictures, unreadable = read_images(
        image_files(images, speaker.warn), image_form(recipe, (classifier.channels, classifier.image_size))
    )
    for image in unreadable:
        speaker.warn(image.problem)
    warnings = training_warnings(classifier, recipe.noise)
    for warning in warnings:
        speaker.warn(warning)
    predictions = []
    with speaker.progress(len(pictures) * procedure.draws_per_image, "predict", "draws") as progress:
        for picture in pictures:
            sampler = Sampler(
                model=in_precision(classifier.network, machine),
                noise=noise,
                split=Split(picture.pixels[None], None, picture.path.name),
                indices=torch.tensor([pixel_seed(picture.pixels)]),
                seed=recipe.system.seed,
                classes=len(classifier.classes),
                batch=classifier.chunk(recipe.system.chunk),
                device=machine.device,
                verb="predict",
            )
            verdict = procedure.verdict(procedure.count_image(sampler, progress.advance))
            predictions.append(predicted_image(picture, verdict, classifier.classes))
    return Prediction(
        source=str(source.path),
        noise=recipe.noise,
        precision=machine.precision,
        norm=claim.norm,
        samples=claim.samples,
        selection=procedure.selection,
        alpha=claim.alpha,
        rule=claim.rule,
        bound=claim.bound,
        theorem=theorem_of(claim.noise, claim.norm),
        warnings=list(warnings),
        explanation=explanation(claim, classifier.image_size),
        predictions=predictions,
        unreadable=unreadable,
    )


def predicted_image(picture: InputImage, verdict: Verdict, classes: Sequence[str]) -> PredictedImage:
    """Return the record of an image's prediction."""
    abstained = verdict.predicted == ABSTAIN
    return PredictedImage(
        predicted=None if abstained else classes[verdict.predicted],
        index=None if abstained else verdict.predicted,
        abstained=abstained,
        top=classes[verdict.top],
        p_lower=verdict.p_lower,
        p_upper=verdict.p_upper,
        radius=verdict.radius,
        image=str(picture.path),
        notes=list(picture.notes),
    )
