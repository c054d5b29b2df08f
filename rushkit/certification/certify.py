"""Certify the robustness of a model on a split by CERTIFY of Cohen, Rosenfeld & Kolter 2019, from logged counts.

Some draws choose the class of an image, others bound its probability, and a theorem turns the bound into a radius. The
counts are logged in the run folder as they are made, so that a stopped run can resume and ``recertify`` can recompute
the radii without the network.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from rushkit.certification.caveats import noise_words, training_warnings
from rushkit.certification.claim import in_own_norm
from rushkit.certification.conclude import conclude
from rushkit.certification.draws import Sampler
from rushkit.certification.log_checks import check_counts, parse_lines
from rushkit.certification.logged_counts import COUNTS_FILE, LoggedCounts, images_hash, read_counts
from rushkit.certification.procedure import Procedure
from rushkit.certification.procedures import choose_procedure
from rushkit.certification.tasks import certified_indices
from rushkit.errors import UsageError
from rushkit.paths import read_text, reason
from rushkit.recipe.load import read_recipe
from rushkit.recipe.radius import eps_words, norm_words
from rushkit.recipe.schema import Recipe
from rushkit.results.certification import Certification, Seal
from rushkit.results.logs import CountsSubject
from rushkit.results.words import every_words
from rushkit.rounding import counted
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.names import RECIPE_FILE
from rushkit.setup.components import build_noise, size_note
from rushkit.setup.model import check_one_function, values_of
from rushkit.setup.resumable import SharedLog, resumable
from rushkit.setup.start import run_or_new
from rushkit.setup.subject import Subject


def certify(recipe: Recipe, source: Checkpoint, run: Run | None = None) -> Certification:
    """Certify a fine-tuned model on a split.

    Args:
        recipe: The sections data, noise, certify and system are used.
        source: A fine-tuned checkpoint.
        run: The run that counts, results and the table are written to; a stopped run is resumed. None starts a new one.

    Returns:
        The contents of results.json; docs/certificates.md explains its keys.

    Raises:
        NoCertificate: the noise has no theorem for the norm.
        UsageError: settings are incompatible, or there are too few draws for alpha.
        RushkitError: the counts in the run belong to another model, data set, noise or seed.
        Interrupted: a signal asked to stop; the counts so far are kept.
    """
    with run_or_new(run, "certify", recipe, source) as run:
        procedure_of(recipe, source)
        settings = recipe.certify
        chosen = Subject.open(recipe, source, split=settings.split, limit=settings.limit, skip=settings.skip, run=run)
        subject = chosen.in_order()
        # A radius depends on the dimension: it is that of the images that are drawn for.
        procedure = choose_procedure(settings, subject.noise, math.prod(subject.split.images.shape[1:]))
        about = _about(recipe, subject, procedure)
        log = SharedLog(run, COUNTS_FILE, about.to_table(), check_counts, units=lambda line: int(line["drawn"]))
        for warning in about.warnings:
            run.speaker.warn(str(warning))
        run.speaker.say(_announcement(recipe, subject, procedure))
        if about.size:
            run.speaker.say(f"note: {about.size}")
        sampler = _sampler(recipe, subject)
        draws = procedure.draws_per_image
        with resumable(
            run,
            log,
            verb="certify",
            label="certify",
            unit="draws",
            total=None if draws is None else draws * len(subject),
            kept=lambda done: f"the counts of {done} draws are kept",
        ) as work:
            sampler = replace(sampler, pause=work.pause_if_alone)
            lines = procedure.draw(sampler, parse_lines(log.lines))
            for _ in work.together(line.to_table() for line in lines):
                pass
        logged = LoggedCounts(about, parse_lines(log.lines), Seal.model_validate(log.seal()))
        return conclude(recipe, procedure, logged, run, str(source.path))


def recertify(recipe: Recipe, counts: Path, source: Checkpoint | None = None, run: Run | None = None) -> Certification:
    """Recompute the radii of a certification from its counts, without the network and the images.

    Args:
        recipe: The recipe of that run, possibly with another alpha, norm, bound, rule or radii, or fewer samples.
        counts: The run folder with the counts; it is only read.
        source: The model that the counts must belong to, or None.
        run: The run that results and the table are written to; None starts a new one.

    Returns:
        The results, as ``certify`` returns them. Images with unfinished draws are left out.

    Raises:
        UsageError: the counts belong to another model, data set, noise or seed, or do not suffice for the settings.
    """
    with run_or_new(run, "certify", recipe, parent=str(counts)) as run:
        procedure, logged = procedure_of_counts(recipe, counts, source)
        run.speaker.say(f"certify from the counts of {counts}: no network and no draws; {_words(procedure)}")
        return conclude(recipe, procedure, logged, run, str(counts))


def procedure_of(recipe: Recipe, source: Checkpoint) -> Procedure:
    """Return the procedure of ``certify``, after all checks that need no draws."""
    check_one_function(source)
    return choose_procedure(recipe.certify, build_noise(recipe), values_of(source))


def procedure_of_counts(
    recipe: Recipe, counts: Path, source: Checkpoint | None = None
) -> tuple[Procedure, LoggedCounts]:
    """Return the procedure of ``recertify`` and its counts, after all checks."""
    logged = read_counts(counts)
    there = logged.subject
    compared = {
        "data": (there.data.model_dump(), recipe.data.model_dump()),
        "split": (there.split, recipe.certify.split),
        "limit": (there.limit, recipe.certify.limit),
        "skip": (there.skip, recipe.certify.skip),
        "noise": (there.noise.model_dump(), recipe.noise.model_dump()),
        "seed": (there.seed, recipe.system.seed),
        "selection": (there.selection, recipe.certify.selection),
        "model": (there.model, source.hash if source else there.model),
    }
    differ = {key: pair for key, pair in compared.items() if pair[0] != pair[1]}
    if differ:
        shown = "; ".join(f"{key} {_brief(old)} there, {_brief(new)} here" for key, (old, new) in differ.items())
        raise UsageError(
            f"the counts of {counts} are of another {' and another '.join(differ)}: {shown}",
            "certify anew, without --from-counts",
        )
    procedure = choose_procedure(recipe.certify, build_noise(recipe), there.dim, there.mode)
    procedure.check_logged(there.samples)
    return procedure, logged


def recipe_of_counts(counts: Path) -> Recipe:
    """Return the recipe that a run's counts were made with. Raises UsageError if there is no such run."""
    read_counts(counts)
    path = counts / RECIPE_FILE
    try:
        return read_recipe(read_text(path), str(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason(error)}", "name a whole run of `rushkit certify`") from error


def check_radii(before: Recipe, recipe: Recipe, counts: Path) -> None:
    """Raise UsageError if radii that were asked for in one norm would silently be taken for radii in another.

    Args:
        before: The recipe that the radii were asked for with.
        recipe: The recipe now.
        counts: The run of that recipe.
    """
    dim = read_counts(counts).subject.dim
    then, settings = (in_own_norm(one.certify, build_noise(one), dim) for one in (before, recipe))
    if settings.norm != then.norm and settings.radii and settings.radii == then.radii:
        radii, there, here = (
            ", ".join(map(eps_words, settings.radii)),
            norm_words(then.norm),
            norm_words(settings.norm),
        )
        raise UsageError(
            f"the counts are of {there} {radii}, and the norm is now {here}: there the same number is another ball",
            f"give the radii in {here}: --norm {settings.norm} --radius R",
        )


def _about(recipe: Recipe, subject: Subject, procedure: Procedure) -> CountsSubject:
    """Return everything that the counts depend on."""
    settings, classifier = recipe.certify, subject.classifier
    asked = certified_indices(subject.whole, settings.limit, settings.skip)
    return CountsSubject(
        data=recipe.data,
        split=settings.split,
        limit=settings.limit,
        skip=settings.skip,
        noise=recipe.noise,
        seed=recipe.system.seed,
        selection=settings.selection,
        model=classifier.checkpoint.hash,
        precision=subject.machine.precision,
        images=images_hash(subject.indices, subject.labels, subject.split),
        of=subject.whole,
        unreadable=asked[~torch.isin(asked, subject.indices)].tolist(),
        dim=procedure.claim.dim,
        classes=list(classifier.classes),
        samples=procedure.claim.samples,
        mode=procedure.mode,
        looks=procedure.looks(procedure.claim.samples),
        warnings=list(training_warnings(classifier, recipe.noise)),
        size=size_note(subject.split),
    )


def _sampler(recipe: Recipe, subject: Subject) -> Sampler:
    return Sampler(
        model=subject.model,
        noise=subject.noise,
        split=subject.split,
        indices=subject.indices,
        seed=recipe.system.seed,
        classes=len(subject.classifier.classes),
        batch=subject.chunk,
        device=subject.machine.device,
    )


def _announcement(recipe: Recipe, subject: Subject, procedure: Procedure) -> str:
    which = every_words(recipe.certify.skip) + (", limited" if recipe.certify.limit else "")
    return (
        f"certify {counted(len(subject), 'image')} of {subject.split.name} ({which}), noise "
        f"{noise_words(recipe.noise)}, {_words(procedure)}; {subject.machine}"
    )


def _words(procedure: Procedure) -> str:
    return f"{norm_words(procedure.claim.norm)}, {procedure.words}"


def _brief(value: object) -> str:
    text = " ".join(map(str, value.values())) if isinstance(value, dict) else str(value)
    return text if len(text) < 40 else f"{text[:12]}..."
