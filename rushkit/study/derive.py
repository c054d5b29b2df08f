"""The recipe that each stage of a row runs with: the one that its command would derive from flags and parent.

Parents need not be done: what a checkpoint says of its recipe is what the stage that makes it was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from rushkit.errors import RushkitError, UsageError
from rushkit.image_size import ImageSize
from rushkit.recipe import toml
from rushkit.recipe.attack_flags import change_attacks, change_published
from rushkit.recipe.components import SECTIONS, check_components
from rushkit.recipe.load import check_target, derive_recipe, load_recipe, said_in_files, transfer_recipe
from rushkit.recipe.origins import Origins, place
from rushkit.recipe.overrides import FlagChange
from rushkit.recipe.schema import Recipe
from rushkit.recipe.toml import Given, Table
from rushkit.study.job import Stage
from rushkit.study.stages import AttackAsked, AuditAsked, ClusterAsked, FinetuneAsked, ProbeAsked, StageAsked, dotted


@dataclass(frozen=True)
class Made:
    """What the checkpoint of a stage, or of a run or file from outside the study, will say.

    Attributes:
        stage: The stage that makes it.
        recipe: Its recipe.
        image_size: The size of its images in pixels; 0 where that is still to be found out.
    """

    stage: Stage
    recipe: Recipe
    image_size: ImageSize = 0

    def size(self) -> ImageSize:
        """Return the size of its images. Imports torch."""
        from rushkit.setup import components

        return self.image_size or components.image_size(self.recipe, components.build_dataset(self.recipe))


@dataclass(frozen=True)
class Derived:
    """A stage of a row before it has a seed.

    Attributes:
        stage: The command.
        recipe: Its recipe.
        options: The options of the job outside the recipe.
    """

    stage: Stage
    recipe: Recipe
    options: dict[str, JsonValue]


def file_changes(tables: Sequence[tuple[str, Table]], origins: Origins) -> list[FlagChange]:
    """Return the changes of ``set`` tables as those of a command line whose errors name the file and line.

    Args:
        tables: The dotted key of each table in the study, and the table; a later one overrides.
        origins: Where the keys stand.
    """
    return [
        FlagChange(place(f"{at}.{key}", origins), key, toml.format_value(value))
        for at, table in tables
        for key, value in dotted(table).items()
    ]


def option_changes(options: dict[str, Given], where: str) -> list[FlagChange]:
    """Return the changes that the options of a stage stand for; ``where`` is its place in the file."""
    return [FlagChange(where, key, toml.format_value(toml.plain(value))) for key, value in options.items()]


def derive(asked: StageAsked, name: str | None, parent: Made | None, labels: str, changes: list[FlagChange]) -> Derived:
    """Return what a stage does.

    Args:
        asked: The stage.
        name: The recipe of its row, which the first stage runs.
        parent: What it starts from: the teacher of a pre-training; None for random weights.
        labels: The name of the clustering that it learns; empty for none.
        changes: The changes of its recipe, those that its options stand for among them.

    Raises:
        UsageError: what the command would refuse before it starts.
    """
    if labels:
        changes = [*changes, FlagChange("labels", f"{asked.do}.labels", toml.format_value(labels))]
    options = asked.options()
    if asked.do == "pretrain":
        recipe = _pretraining(name, parent, changes)
    elif isinstance(asked, FinetuneAsked):
        recipe = _finetuning(asked, name, parent, changes)
    else:
        assert parent is not None
        recipe = parent.recipe
        if isinstance(asked, ClusterAsked) and asked.to:
            check_target(asked.to)
            recipe = transfer_recipe(recipe, asked.to, parent.size())
        recipe = derive_recipe(recipe, changes, {})
        if recipe.backbone != parent.recipe.backbone:
            raise UsageError(
                f"the model has a {parent.recipe.backbone.name}, and `set` cannot make another backbone of it",
                "set the backbone of the whole row, so that it is trained",
            )
    if isinstance(asked, ClusterAsked) and asked.split is None:
        # Those that it is pre-trained on.
        options["split"] = recipe.pretrain.split
    if not labels and asked.do in ("pretrain", "finetune") and getattr(recipe, asked.do).labels:
        raise UsageError(
            f"{asked.do} learns the labels of a clustering, and none is named",
            '`labels` names the stage of the study that makes the clusters: do = "cluster"',
        )
    if isinstance(asked, AttackAsked):
        change = change_published if asked.protocols == ["published"] else change_attacks
        recipe = change(recipe, asked.type, changes=_of_attacks(changes), **asked.attack_keys())
    elif isinstance(asked, AuditAsked):
        kind = None if recipe.attack else "pgd"
        recipe = change_attacks(recipe, kind, changes=_of_attacks(changes), **asked.attack_keys())
    elif isinstance(asked, ProbeAsked):
        kind = None if recipe.attack else "pgd"
        change_attacks(recipe, kind, norm=asked.norm, eps=asked.eps)
    if parent is None or _components(recipe) != _components(parent.recipe):
        check_components(recipe)
    if isinstance(asked, AttackAsked):
        _check_attacks(recipe, asked)
    return Derived(asked.do, recipe, options)


def check_baseline(recipe: Recipe, baseline: Recipe) -> None:
    """Raise UsageError unless an evaluation's errors under corruptions can be shares of those of another.

    Args:
        recipe: Of the evaluation.
        baseline: Of the one that its key ``baseline`` names.
    """
    ours, theirs = recipe.evaluate, baseline.evaluate
    if not ours.corruptions:
        raise UsageError(
            "`baseline` is for errors under corruptions, and this stage measures none",
            'for example set = { evaluate.corruptions = ["fog", "snow"] } in both stages',
        )
    if lacking := [kind for kind in ours.corruptions if kind not in theirs.corruptions]:
        raise UsageError(
            f"the stage of `baseline` does not measure {lacking[0]}", "measure both under the same corruptions"
        )
    if sorted(ours.strengths) != sorted(theirs.strengths):
        raise UsageError("the stage of `baseline` measures other strengths", "evaluate.strengths must be the same")
    images = [(one.data, one.evaluate.split, one.evaluate.limit, one.evaluate.skip) for one in (recipe, baseline)]
    if images[0] != images[1]:
        raise UsageError(
            "the stage of `baseline` measures other images: an error is a share of another one on the same only",
            "give both the same data, split, limit and skip",
        )


def _pretraining(name: str | None, teacher: Made | None, changes: list[FlagChange]) -> Recipe:
    from rushkit.training.labels import check_labels
    from rushkit.training.teacher import check_teacher

    assert name is not None
    recipe = load_recipe(name, changes, {})
    check_teacher(recipe, None if teacher is None else "`from`")
    check_labels(recipe)
    return recipe


def _finetuning(asked: FinetuneAsked, name: str | None, parent: Made | None, changes: list[FlagChange]) -> Recipe:
    from rushkit.training.finetune import supervised_recipe, tuned_recipe

    if parent is None:
        assert name is not None
        if asked.to:
            raise UsageError("`to` is for an encoder, and there is none", "put a stage that pre-trains before it")
        by_itself = said_in_files(name, "finetune.freeze") == "none"
        return supervised_recipe(load_recipe(name, changes, {}), by_itself)
    if asked.to:
        check_target(asked.to)
    knows_clusters = parent.stage == "finetune" and bool(parent.recipe.finetune.labels)
    size = parent.size() if asked.to else 0
    return derive_recipe(tuned_recipe(parent.recipe, knows_clusters, asked.to or None, size), changes, {})


def _components(recipe: Recipe) -> list[object]:
    """Return the sections that name components."""
    return [getattr(recipe, section) for section in SECTIONS]


def _check_attacks(recipe: Recipe, asked: AttackAsked) -> None:
    """Raise UsageError for an attack that cannot be made, where the data set is here to be asked for its classes."""
    from rushkit.robustness.jobs import plan_jobs
    from rushkit.setup import components

    try:
        dataset = components.build_dataset(recipe)
        classes, size = dataset.classes, components.image_size(recipe, dataset)
    except RushkitError:
        return
    plan_jobs(recipe, classes, asked.protocols, size)


def _of_attacks(changes: list[FlagChange]) -> list[FlagChange]:
    return [change for change in changes if change.startswith(("attack.", "published."))]
