"""The classifier of a run behind defences of the user's: what ``--front`` puts before ``--from``."""

from __future__ import annotations

import torch

from rushkit.models.draws import global_draws
from rushkit.recipe.model_section import Model
from rushkit.recipe.schema import Recipe
from rushkit.results.run_file import GivenFacts
from rushkit.run.checkpoint import Checkpoint
from rushkit.setup.given import GivenModel, Images, consented_fronts, front_facts, tried
from rushkit.setup.model import channels_of, classes_of, image_size_of, load_classifier
from rushkit.setup.named_module import make_front
from rushkit.system import Machine


def fronted(recipe: Recipe, source: Checkpoint) -> GivenModel:
    """Put what a recipe's section [model] names before the classifier of a checkpoint, if the user named it too.

    Args:
        recipe: The sections model and system are used.
        source: A fine-tuned checkpoint.

    Raises:
        UsageError: the user did not name the code, or it is no callable of images.
        PluginError: it raises an error.
        CheckpointError: the checkpoint holds no classifier.
    """
    section = recipe.model
    assert section is not None
    fronts = consented_fronts(section)
    classifier = load_classifier(source, Machine(torch.device("cpu"), "float32"))
    with global_draws(recipe.system.seed, "making a given model"):
        made = [make_front(front) for front in fronts]
    facts = GivenFacts(code=source.path.stem, fronts=front_facts(fronts))
    images = Images(channels_of(source), image_size_of(source), classes_of(source), f"{source.path} has")
    return tried(classifier.network, recipe, facts, made, images, source)


def with_fronts(recipe: Recipe, fronts: list[str]) -> Recipe:
    """Return a recipe whose section [model] names fronts before the classifier of a run."""
    return recipe.model_copy(update={"model": Model(fronts=fronts)})
