"""Predictions that know when to abstain: PREDICT of Cohen, Rosenfeld & Kolter 2019 for image files, with the radius."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rushkit.certificates import ABSTAIN, predict_counts
from rushkit.certification.certify import claim_of
from rushkit.certification.claim import Claim, training_warnings
from rushkit.certification.conclude import estimate, exhaustive
from rushkit.certification.counts import ImageCounts
from rushkit.certification.votes import (
    MOST_DRAWS,
    Counts,
    Piece,
    all_splits,
    count_votes,
    noisy_unit,
    unit_sizes,
)
from rushkit.data.picture import ImageFault, own_bounds
from rushkit.data.picture import read_picture as decode
from rushkit.data.scan import SUFFIXES, LeftOut, describe_left_out, scan
from rushkit.distributed import ranks
from rushkit.errors import DataError, UsageError
from rushkit.paths import exists, is_folder
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.speaker import Speaker
from rushkit.setup import components
from rushkit.setup.model import load_classifier
from rushkit.setup.start import machine_of
from rushkit.setup.subject import LowPrecision
from rushkit.statistics import clopper_pearson_interval
from rushkit.votes import SCORE

_REPAIR = "repair it, or leave it out"


@dataclass(frozen=True)
class Picture:
    """An image that was read.

    Attributes:
        path: The file.
        pixels: uint8 (3, S, S) at the size that the model takes.
        notes: What was done to it.
    """

    path: Path
    pixels: Tensor
    notes: tuple[str, ...]


def predict(
    recipe: Recipe, source: Checkpoint, images: Sequence[str | Path], speaker: Speaker | None = None
) -> dict[str, Any]:
    """Classify image files, each with a class or an abstention, bounds on its probability, and a certified radius.

    The draws of an image depend on its pixels and the seed alone: it gets the same answer in any company.
    Several ranks deal the draws of each image out among themselves.

    Args:
        recipe: Sections noise, certify (norm, samples, selection, alpha, bound, rule, two_class), system.
        source: A fine-tuned checkpoint.
        images: Files, and folders whose image files are meant, those of their folders too.
        speaker: Where warnings and progress go; None: to the screen.

    Returns:
        ``predictions``, one for each image that can be read, what they were made with, and ``unreadable``, the others.

    Raises:
        UsageError: no images, more draws than can be counted, or settings as for ``certify``.
        DataError: none of the images can be read.
    """
    ranks.join()
    speaker, settings = speaker or Speaker(), recipe.certify
    recipe = recipe.model_copy(update={"certify": settings.model_copy(update={"radii": []})})
    claim, machine = claim_of(recipe, source, predicts=True), machine_of(recipe)
    selection = 0 if claim.mode == "splits" else settings.selection
    if (draws := max(selection, claim.samples)) > MOST_DRAWS:
        raise UsageError(f"{draws} draws of one image are more than can be counted", f"ask for {MOST_DRAWS} at most")
    classifier = load_classifier(source, machine)
    # All are read first: what is wrong with one shows before the draws of the others, and costs none of them.
    pictures, unreadable = _read_all(image_files(images, speaker.warn), classifier.image_size)
    for problem in unreadable:
        speaker.warn(problem["problem"])
    warnings = training_warnings(classifier.recipe, recipe, classifier.image_size, classifier.imported)
    for warning in warnings:
        speaker.warn(warning)
    model: nn.Module = classifier.network
    if machine.precision != "float32":
        model = LowPrecision(model, machine)
    batch = classifier.chunk(recipe.system.chunk)

    def count(pieces: Iterable[Piece]) -> Counts:
        return count_votes(model, pieces, 1, len(classifier.classes), batch, machine.device)

    rows = []
    with speaker.progress(len(pictures) * (selection + claim.samples), "predict", "draws") as progress:
        for picture in pictures:
            x = components.to_float(picture.pixels.to(machine.device))
            seed = pixel_seed(picture.pixels)
            counts = _counts(count, claim, x, selection, recipe.system.seed, seed, progress.advance)
            rows.append(
                verdict(claim, counts, classifier.classes) | {"image": str(picture.path), "notes": list(picture.notes)}
            )
    return {
        "stage": "predict",
        "source": str(source.path),
        "noise": recipe.noise.model_dump(),
        "norm": claim.norm,
        "samples": claim.samples,
        "selection": selection,
        "alpha": claim.alpha,
        "rule": claim.rule,
        "bound": claim.bound,
        "warnings": warnings,
        "explanation": explanation(claim, classifier.image_size),
        "predictions": rows,
        "unreadable": unreadable,
    }


def _read_all(paths: Sequence[Path], size: int) -> tuple[list[Picture], list[dict[str, str]]]:
    """The images that can be read, and what is wrong with the others. Raises DataError where none can be read."""
    pictures: list[Picture] = []
    unreadable: list[dict[str, str]] = []
    for path in paths:
        try:
            pictures.append(read_picture(path, size))
        except DataError as error:
            if len(paths) == 1:
                raise
            unreadable.append({"image": str(path), "problem": error.message})
    if not pictures:
        raise DataError(f"none of these {len(paths)} images can be read: {unreadable[0]['problem']}", _REPAIR)
    return pictures, unreadable


def image_files(given: Sequence[str | Path], warn: Callable[[str], None] | None = None) -> list[Path]:
    """The files that are meant, folders searched in order of name.

    Args:
        given: Files and folders.
        warn: Hears of what a folder has that is left out: links in circles, what is no file, formats that are not read.

    Raises:
        UsageError: none are given, or a folder has no image files.
        DataError: a folder cannot be listed.
    """
    if not given:
        raise UsageError("no image is named", "for example rushkit predict photo.png")
    files: list[Path] = []
    for path in map(Path, given):
        if not is_folder(path):
            files.append(path)
            continue
        inside = scan(path)
        if not inside.images:
            raise UsageError(
                f"{path} has no images{_apart_from(inside.left_out)}",
                f"their names end in one of {' '.join(sorted(SUFFIXES))}",
            )
        if inside.left_out and warn:
            warn(f"{path}: {len(inside.left_out)} left out{_apart_from(inside.left_out)}")
        files += sorted(path / image.path for image in inside.images)
    return files


def _apart_from(left_out: tuple[LeftOut, ...]) -> str:
    return f": {describe_left_out(left_out)}" if left_out else ""


def read_picture(path: Path, size: int) -> Picture:
    """Read an image at the model's size: its middle square, resized with antialiasing, as the data set `folder` does.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    try:
        with own_bounds():
            decoded = decode(path, size)
    except ImageFault as fault:
        if not exists(path):
            raise DataError(f"there is no image {path}", "check the path") from fault
        raise DataError(fault.message, _REPAIR) from fault
    side = min(decoded.width, decoded.height)
    notes = []
    if decoded.width != decoded.height:
        notes.append(f"middle {side}x{side} of {decoded.width}x{decoded.height}")
    if side != size:
        notes.append(f"resized from {side}x{side} to {size}x{size}")
    return Picture(path, torch.from_numpy(decoded.pixels.copy()), tuple(notes))


def pixel_seed(pixels: Tensor) -> int:
    """A number that the pixels of an image determine."""
    return int.from_bytes(hashlib.blake2b(pixels.numpy().tobytes(), digest_size=7).digest(), "big")


def verdict(claim: Claim, counts: ImageCounts, classes: Sequence[str]) -> dict[str, Any]:
    """What one image's counts say.

    The class is PREDICT's, from the draws that estimate; the radius is CERTIFY's. Where the draws that estimate name
    another class than those that choose, it abstains: the bounds are always those of ``top``, the class that was
    chosen before the draws that they count.
    """
    top = int(counts.mean_class[0] if claim.rule == "mean" else counts.selection.argmax(axis=1)[0])
    if claim.mode == "splits":
        certificate = exhaustive(claim, counts)
        predicted, low, high = top, counts.selection[0, top] / claim.samples, counts.selection[0, top] / claim.samples
    else:
        certificate = estimate(claim, counts)
        if claim.rule == "majority":
            winner = int(predict_counts(counts.votes, claim.alpha)[0])
            predicted = winner if winner == top else ABSTAIN
            low, high = clopper_pearson_interval(counts.votes[0, top], claim.samples, claim.alpha)
        else:
            predicted, low, high = int(certificate.predicted[0]), certificate.p_lower[0], 1.0
    agree = predicted == certificate.predicted[0]
    return {
        "class": None if predicted == ABSTAIN else classes[predicted],
        "index": None if predicted == ABSTAIN else predicted,
        "abstained": predicted == ABSTAIN,
        "top": classes[top],
        "p_lower": float(low),
        "p_upper": float(high),
        "radius": float(certificate.radius[0]) if agree else 0.0,
    }


def explanation(claim: Claim, size: int) -> str:
    """What the columns of a prediction of images of a size mean."""
    units = (
        f"The radius is in pixel units of the {size}x{size} image that the model takes: for an image that was resized "
        "it says nothing of perturbations of the file's own pixels."
    )
    if claim.mode == "splits":
        meaning = "probability: share of all splits. radius: no perturbation within it changes the class, for certain. "
        return meaning + units
    return (
        f"class: the smoothed classifier's own, or abstain; wrong with probability at most {claim.alpha:g}. "
        "probability: bounds on that of the nearest class under the noise, at the same alpha. radius: no perturbation "
        "within it changes the class, again but for alpha. None of this says that the class is right. The draws are a "
        "function of the pixels and the seed: all this is for images chosen without knowledge of the seed; where an "
        "adversary may choose them, keep a seed of your own secret: --set system.seed=... " + units
    )


def _counts(
    count: Callable[[Iterable[Piece]], Counts],
    claim: Claim,
    x: Tensor,
    selection: int,
    seed: int,
    pixels: int,
    advance: Callable[[int], Any],
) -> ImageCounts:
    if claim.mode == "splits":
        own = islice(all_splits(claim.noise, x), ranks.rank(), None, ranks.world())
        counts = count((0, noisy) for noisy in own)
        return _as_image_counts(counts, counts)

    def draw(part: str, draws: int) -> Counts:
        purpose = f"predict {part}"
        pieces = (
            (0, noisy_unit(claim.noise, x, size, seed, purpose, pixels, unit))
            for unit, size in ranks.own(list(enumerate(unit_sizes(draws))))
        )
        counts = count(pieces)
        advance(draws)
        return counts

    return _as_image_counts(draw("selection", selection), draw("estimation", claim.samples))


def _as_image_counts(selection: Counts, estimation: Counts) -> ImageCounts:
    nothing, chosen = np.zeros(1, dtype=np.int64), int(selection.scores[0].argmax())
    return ImageCounts(
        images=nothing,
        labels=nothing,
        selection=selection.votes,
        selection_scores=selection.scores / SCORE,
        votes=estimation.votes,
        scores=estimation.scores[:, chosen] / SCORE,
        squares=estimation.squares[:, chosen] / SCORE**2,
        seconds=np.zeros(1),
    )
