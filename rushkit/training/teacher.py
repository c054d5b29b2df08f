"""The teacher of a pre-training: whether the objective has one, whether it suits the images, and what is said of it."""

from __future__ import annotations

from torch import nn

from rushkit.data import channels_of
from rushkit.errors import UsageError, shell_line
from rushkit.image_size import size_line, size_words
from rushkit.objectives import HasTeacher
from rushkit.recipe.find import called_like
from rushkit.recipe.schema import Recipe
from rushkit.recipe.variant import base_name
from rushkit.results.training import Teacher
from rushkit.results.words import noise_words, plain_noise
from rushkit.run.checkpoint import Checkpoint
from rushkit.setup import components
from rushkit.setup.model import NOISE_DRAWN, check_channels, image_size_of, load_encoder, recipe_of
from rushkit.setup.networks import build_encoder

# Whatever noise it was trained under: RUSH's first view is a clean one, too.
_SEES = "the clean views, without noise"


def check_teacher(recipe: Recipe, named: str | None) -> None:
    """Check that a teacher is named if the recipe's objective has one, and only then.

    Args:
        recipe: Section pretrain; the name stands in the message.
        named: What ``--from`` says, or the checkpoint's path; None if no teacher is named.

    Raises:
        UsageError: a teacher is missing, or is one too many.
    """
    objective = recipe.pretrain.objective
    taught = isinstance(components.build_objective(recipe, recipe.pretrain), HasTeacher)
    if taught and named is None:
        maker = called_like(recipe.data.name)
        raise UsageError(
            f"objective {objective!r} learns from a teacher, and none is named: --from is missing",
            f"for example: {shell_line('rushkit', 'pretrain', '--recipe', base_name(recipe.name), '--from', maker)}; "
            f"make a teacher with: {shell_line('rushkit', 'pretrain', '--recipe', maker)}",
        )
    if named is not None and not taught:
        raise UsageError(
            f"objective {objective!r} learns from no teacher: {named} does not go with it",
            "leave --from out; `deacl` has a teacher",
        )


def load_teacher(recipe: Recipe, source: Checkpoint | None) -> nn.Module | None:
    """Return the encoder of a checkpoint, in eval mode on the CPU and without gradients; None for none.

    Args:
        recipe: Of the student, which must take images of the same size.
        source: The teacher's checkpoint.

    Raises:
        UsageError: the teacher takes images of another size or of other channels.
        CheckpointError: the checkpoint does not fit its own recipe.
    """
    if source is None:
        return None
    dataset = components.build_dataset(recipe)
    check_channels(source, channels_of(dataset), dataset.name)
    theirs, ours = image_size_of(source), components.image_size(recipe, dataset)
    if theirs != ours:
        raise UsageError(
            f"the teacher {source.path} takes images of {size_words(theirs)}, and the student's are {size_words(ours)}",
            f"{size_line(theirs)}, or another teacher",
        )
    return load_encoder(source)


def stand_in(recipe: Recipe) -> nn.Module | None:
    """Return an encoder of random weights in the place of a teacher, to measure how fast the training is.

    Args:
        recipe: Of the student. It is None if the recipe's objective has no teacher.
    """
    if not isinstance(components.build_objective(recipe, recipe.pretrain), HasTeacher):
        return None
    shape = components.image_shape(recipe, components.build_dataset(recipe))
    return build_encoder(recipe, shape).eval().requires_grad_(False)


def teacher_record(source: Checkpoint) -> Teacher:
    """Return the record of a teacher."""
    recipe = recipe_of(source)
    drawn = source.meta.get(NOISE_DRAWN)
    noise = noise_words(plain_noise(recipe.noise)) if drawn is True else None if drawn is None else ""
    return Teacher(source=str(source.path), recipe=recipe.name, noise=noise, sees=_SEES)
