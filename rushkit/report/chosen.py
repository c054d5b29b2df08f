"""How the images of a measurement were chosen, as its run's recipe says and the images' indices confirm."""

from __future__ import annotations

from rushkit.recipe.schema import Recipe
from rushkit.results.attacks import AttackRow
from rushkit.results.certification import Certification
from rushkit.results.evaluation import Evaluation
from rushkit.results.statements import BY_THE_AUTHOR, chosen_words


def chosen_to_evaluate(results: Evaluation, recipe: Recipe | None) -> str:
    """Return how the images of an evaluation were chosen; without its recipe nothing says so."""
    if recipe is None:
        return BY_THE_AUTHOR
    section = recipe.evaluate
    return chosen_words(results.outcomes.images, _split_words(results.data, recipe), section.limit, section.skip)


def chosen_to_attack(row: AttackRow, recipe: Recipe | None) -> str:
    """Return how the images of an attack were chosen: by the first section of the recipe that they agree with."""
    if recipe is None:
        return BY_THE_AUTHOR
    split, sections = row.split.rpartition("/")[2], (*recipe.attack, *recipe.published)
    alike = ((one.limit, one.skip) for one in sections if (one.type, one.split) == (row.attack, split))
    among = _split_words(row.split, recipe)
    words = (chosen_words(row.outcomes.indices, among, *which) for which in dict.fromkeys(alike))
    return next((said for said in words if said != BY_THE_AUTHOR), BY_THE_AUTHOR)


def chosen_to_certify(results: Certification, recipe: Recipe | None) -> str:
    """Return how the images of a certification were chosen; without its recipe nothing says so."""
    if recipe is None:
        return BY_THE_AUTHOR
    section = recipe.certify
    return chosen_words(results.outcomes.images, _split_words(results.data, recipe), section.limit, section.skip)


def _split_words(data: str, recipe: Recipe) -> str:
    """Return the split of "cifar10/test", and what the recipe's section data leaves of it."""
    split, section = data.rpartition("/")[2], recipe.data
    held_out = f"without the {section.validation} of validation" if section.validation and split == "train" else ""
    limited = f"after data.limit = {section.limit}" if section.limit else ""
    return " ".join(filter(None, (split, held_out, limited)))
