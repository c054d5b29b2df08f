"""Import other people's models as runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rushkit import data
from rushkit.errors import first_few
from rushkit.exchange.plan import Plan, plan_import
from rushkit.exchange.pretrained import pretrained_weights
from rushkit.exchange.published import Branch
from rushkit.exchange.rules import Rules
from rushkit.foreign.claims import LEAST_PROBABILITY, chance_of_claim
from rushkit.foreign.file import read_foreign
from rushkit.image_size import size_to_json
from rushkit.noises.none import NoNoise
from rushkit.recipe.schema import Recipe
from rushkit.results.imported import CleanCheck, Imported
from rushkit.results.intervals import accuracy_row
from rushkit.rounding import percent
from rushkit.run.folder import Run
from rushkit.setup.class_order import explained_by_permutation
from rushkit.setup.components import data_name
from rushkit.setup.outcomes import count_outcomes
from rushkit.setup.start import start_run
from rushkit.setup.subject import Subject

_NO_RULES = Rules()
_QUESTION = "is it the normalisation (--mean, --std), the order of the classes, the image size, the backbone's options?"


def import_model(
    recipe: Recipe,
    weights: str | Path | None = None,
    rules: Rules = _NO_RULES,
    encoder_only: bool = False,
    branch: Branch | None = None,
    check: int = 500,
) -> Imported:
    """Make a run of somebody else's model, which ``open_checkpoint`` then opens.

    Example::

        recipe = rushkit.import_recipe("theirs", "cifar10", "resnet18", mean=[0.5] * 3, std=[0.25] * 3)
        imported = rushkit.import_model(recipe, "weights.pt")
        model = rushkit.open_checkpoint(imported.run, "finetune")

    Args:
        recipe: As ``import_recipe`` makes it.
        weights: A state dict: .pt, .pth or .safetensors; None: the pretrained weights of timm or torchvision, which are
            downloaded.
        rules: What is renamed and left out.
        encoder_only: Leave the head out; ``finetune`` trains another.
        branch: Whose BatchNorm set to take from a file with several; None: the adversarial one.
        check: Images of ``evaluate.split`` that are classified without noise; 0: none.

    Raises:
        UsageError: as for ``plan_import``.
        CheckpointError: the file cannot be read, or its tensors do not fit.
    """
    foreign = read_foreign(weights) if weights is not None else pretrained_weights(recipe)
    plan = plan_import(recipe, foreign, rules, encoder_only, branch)
    with start_run("import", plan.recipe) as run:
        return write_import(plan, run, check)


def write_import(plan: Plan, run: Run, check: int = 500) -> Imported:
    """Write the checkpoint, and measure the classifier's accuracy on clean images.

    Args:
        plan: What is imported.
        run: Takes it.
        check: Images of ``evaluate.split`` that are classified without noise; 0: none.
    """
    recipe, is_classifier = plan.recipe, plan.stage == "finetune"
    run.update(stage=plan.stage, imported=plan.origin.to_table())
    for note in plan.origin.notes:
        run.speaker.say(note)
    if plan.origin.ignored:
        run.speaker.warn(f"left out, as asked: {first_few(plan.origin.ignored)}")
    run.save_checkpoint(0, plan.tensors, plan.meta())
    return run.write_results(
        Imported(
            recipe=recipe.name,
            makes="classifier" if is_classifier else "encoder",
            imported=plan.origin,
            backbone=recipe.backbone,
            noise=recipe.noise,
            parameters=plan.parameters,
            image_size=size_to_json(plan.image_size),
            channels=plan.channels,
            classes=len(plan.classes) if is_classifier else None,
            clean=_clean_check(plan, run, check) if is_classifier and check else None,
        )
    )


def _clean_check(plan: Plan, run: Run, images: int) -> CleanCheck | None:
    """Measure clean accuracy without noise; None if the data is missing.

    It warns where the accuracy is that of guessing, or contradicts what the file claims.
    """
    recipe = plan.recipe
    name = data_name(recipe)
    described = data.describe(recipe.data.name, recipe.system.data_dir, **recipe.data.options)
    if not described.ready or recipe.evaluate.split not in described.splits:
        lacks = "is not complete" if not described.ready else f"has no split {recipe.evaluate.split}"
        run.speaker.warn(f"not checked on images: {name} {lacks} in {recipe.system.data_dir}")
        return None
    checkpoint = run.checkpoints.load_latest()
    assert checkpoint is not None
    subject = Subject.open(recipe, checkpoint, split=recipe.evaluate.split, limit=images)
    g, split = replace(subject, noise=NoNoise()).smoothed(1), subject.split
    outcomes = count_outcomes(g, split, 1, recipe.system.seed, subject.machine.device)
    row = accuracy_row(outcomes.right("majority"))
    if order := explained_by_permutation(outcomes.predicted["majority"], subject.labels, subject.classifier.classes):
        run.speaker.warn(order.describe())
    chance = int(subject.labels.bincount().max()) / len(split)
    if row["low"] <= chance:
        run.speaker.warn(
            f"clean accuracy is {percent(row['accuracy'])} % on {len(split)} images, where always saying the "
            f"commonest class has {percent(chance)} %: {_QUESTION}"
        )
    claim, claim_chance = plan.origin.claim, None
    if claim is not None:
        claim_chance = chance_of_claim(claim, row["correct"], len(split))
        if claim_chance < LEAST_PROBABILITY:
            run.speaker.warn(
                f"the file says {claim.key}: {percent(claim.accuracy)} %, and here "
                f"{percent(row['accuracy'])} % of {len(split)} clean images are right; if the claim held for {name}, "
                f"so few would be right once in a thousand imports or less: {_QUESTION}"
            )
    return CleanCheck(data=split.name, chance=chance, claim_chance=claim_chance, **row)
