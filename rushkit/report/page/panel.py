"""A few images as the model sees them: clean, attacked, the change, one noisy draw, and the votes of many draws."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from rushkit import data
from rushkit.attacks.norms import length, rounding
from rushkit.data.memory import Split
from rushkit.errors import DataError, RushkitError
from rushkit.noises import noisy_images
from rushkit.recipe.load import derive_recipe
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Recipe
from rushkit.report.families import MODEL_VERBS, Family, recipe_of_run
from rushkit.report.page.cards import Bar, Card, Panel, Thumb, Votes
from rushkit.report.protocols import protocol_words
from rushkit.results.attacks import AttackRow, Attacks
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.info import RunInfo
from rushkit.setup import components
from rushkit.setup.model import Classifier, load_classifier
from rushkit.setup.start import machine_of
from rushkit.setup.subject import check_classes, check_images, labels_of, smoothed
from rushkit.system import derived_seed, generator

# Images shown of each kind, and draws that vote.
_EACH = 3
_VOTES = 64
# Classes shown as bars beside the label.
_TOP = 3


@dataclass(frozen=True)
class Attacked:
    """Images of one attack that were kept.

    Attributes:
        split: The images that were attacked.
        classes: Classes of their data set.
        adversarial: (N, C, H, W) float32, the adversarial images.
        row: The attack's row of results.json.
    """

    split: Split
    classes: tuple[str, ...]
    adversarial: Tensor
    row: AttackRow


def panel(family: Family, name: str) -> Panel | None:
    """Return the panel of a model, or a sentence where its checkpoint or its data are not there; None for an encoder.

    Nothing is downloaded. The draws follow from the recipe's seed.
    """
    if family.model.about.model is not None:
        return Panel(f"No images of {name}: its model is code, and a report runs none.")
    if family.model.stage not in MODEL_VERBS:
        return None
    try:
        return _panel(family, name)
    except RushkitError as error:
        return Panel(f"No images of {name}: {error.message}")


def _panel(family: Family, name: str) -> Panel:
    checkpoint = family.model.store().load_latest()
    stored = recipe_of_run(family.model)
    if checkpoint is None or stored is None:
        raise DataError("its checkpoint or its recipe is gone")
    recipe = _found_here(stored)
    machine = machine_of(recipe)
    classifier = load_classifier(checkpoint, machine)
    attacked = _attacked(family)
    if attacked is None:
        dataset = components.build_dataset(recipe)
        split, classes = components.load_split(recipe, dataset, recipe.evaluate.split), dataset.classes
        shown = list(range(min(2 * _EACH, len(split))))
    else:
        split, classes, shown = attacked.split, attacked.classes, _choose(attacked.row)
    check_classes(split.name, classes, classifier.classes)
    check_images(split, (classifier.channels, classifier.image_size))
    labels = labels_of(split, len(classifier.classes))
    x = components.to_float(split.images[torch.tensor(shown)].to(machine.device))
    noise = components.build_noise(recipe)
    draw = generator(recipe.system.seed, "report panel", device=machine.device)
    noisy = noisy_images(noise, x, draw)
    g = smoothed(classifier.network, noise, _VOTES, classifier.chunk(recipe.system.chunk), machine)
    x_adv = None if attacked is None else attacked.adversarial[shown].to(machine.device)
    with g.fresh_noise(derived_seed(recipe.system.seed, "report votes")):
        votes = [g.votes(images).tolist() for images in (x, x_adv) if images is not None]
    cards = []
    for place, index in enumerate(shown):
        versions = [("clean", x[place]), ("one noisy look, cut to [0, 1]", noisy[place])]
        if x_adv is not None:
            change, factor = magnified(x[place], x_adv[place])
            changed = f"change × {factor:.3g}" if factor else "no change"
            versions[1:1] = [("attacked", x_adv[place]), (changed, change)]
        label = int(labels[index])
        fate = "" if attacked is None else _fate(attacked.row, index)
        cards.append(_card(versions, [of_images[place] for of_images in votes], classifier, label, fate))
    return Panel(_caption(name, attacked), tuple(cards))


def magnified(x: Tensor, x_adv: Tensor) -> tuple[Tensor, float]:
    """Return the change of an image around mid-grey and its magnification: the largest entry fills the range.

    An image without a change is grey, and the factor 0.
    """
    change = x_adv - x
    largest = float(change.abs().max())
    factor = 0.5 / largest if largest > 0 else 0.0
    return 0.5 + factor * change, factor


def picture(x: Tensor) -> str:
    """Return the URL of a (C, H, W) image in [0, 1], with its PNG inside; values outside are cut.

    Three channels or more are shown by the first three, as red, green and blue; fewer as their mean, in grey.
    """
    shown = x[:3] if len(x) >= 3 else x.mean(dim=0, keepdim=True)
    pixels = (shown.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(2).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _found_here(recipe: Recipe) -> Recipe:
    """Return the recipe on this machine, if its data can be read as they are.

    Raises:
        DataError: they would have to be downloaded or repaired first.
    """
    recipe = derive_recipe(recipe)
    section = recipe.data
    about = data.describe(section.name, recipe.system.data_dir, **section.options)
    if not about.ready:
        raise DataError(about.problem or f"the files of {section.name} are not in {recipe.system.data_dir}")
    return recipe


def _attacked(family: Family) -> Attacked | None:
    """Return the saved images of the newest attack, preferably under the strict protocol and with the largest m."""
    for run, results in reversed(family.results(Attacks)):
        recipe = recipe_of_run(run)
        rows = [row for row in results.attacks if row.saved]
        rows.sort(key=lambda row: (row.protocol != "strict", -row.samples))
        for row in rows:
            kept = _kept(run, _found_here(recipe), row) if recipe else None
            if kept is not None:
                return kept
    return None


def _kept(run: RunInfo, recipe: Recipe, row: AttackRow) -> Attacked | None:
    """Return the images of one attack, where they are still those that the data set has."""
    attacked = (row.attack, row.norm, row.eps, row.split.rpartition("/")[2])
    sections = (
        section
        for section in (*recipe.attack, *recipe.published)
        if (section.type, section.norm, section.eps, section.split) == attacked
    )
    section = next(sections, None)
    try:
        tensors = load_checkpoint(run.path / row.saved).tensors
    except RushkitError:
        return None
    if section is None:
        return None
    dataset = components.build_dataset(recipe)
    split = components.load_split(recipe, dataset, section.split, limit=section.limit, skip=section.skip)
    images, labels = tensors["images"], tensors["labels"]
    if split.labels is None or not torch.equal(split.labels, labels) or split.images.shape != images.shape:
        return None
    # Other images of the same labels lie far outside the ball.
    distance = length(images.double() - components.to_float(split.images[:]).double(), section.norm)
    if (distance > section.eps + rounding(section.norm, images[0].numel())).any():
        return None
    return Attacked(split, dataset.classes, images, row)


def _fate(row: AttackRow, index: int) -> str:
    """Return the outcome of an attack on an image in words, by the majority of its votes."""
    right, clean = (votes["majority"][index] / row.votes for votes in (row.outcomes.right, row.outcomes.clean_right))
    return "wrong before" if clean <= 0.5 else "still right" if right > 0.5 else "broken"


def _choose(row: AttackRow) -> list[int]:
    """Choose images that the attack broke and images that it did not; then those that were wrong before."""
    fates = [_fate(row, index) for index in range(row.images)]
    places: list[int] = []
    for wanted in ("broken", "still right"):
        places += [index for index, fate in enumerate(fates) if fate == wanted][:_EACH]
    others = [index for index in range(len(fates)) if index not in places]
    return sorted([*places, *others][: 2 * _EACH])


def _caption(name: str, attacked: Attacked | None) -> str:
    if attacked is None:
        words = f"{name}: no attacked images were kept; rushkit attack --save keeps them."
    else:
        row = attacked.row
        words = (
            f"{name}: attacked by {row.attack} within {ball_words(row.norm, row.eps)}, protocol "
            f"{protocol_words(row)}, m = {row.samples}; chosen to show images that it broke and images that it "
            "did not, by the votes of the attack."
        )
    return f"{words} The bars are the votes of {_VOTES} noisy looks at the image."


def _card(
    versions: Sequence[tuple[str, Tensor]], votes: Sequence[list[int]], classifier: Classifier, label: int, fate: str
) -> Card:
    kinds = zip(("clean", "attacked"), votes, strict=False)
    return Card(
        truth=classifier.classes[label],
        fate=fate,
        thumbs=tuple(Thumb(picture(image), words) for words, image in versions),
        votes=tuple(Votes(words, _bars(counts, classifier.classes, label)) for words, counts in kinds),
    )


def _bars(counts: Sequence[int], classes: Sequence[str], label: int) -> tuple[Bar, ...]:
    """Return the classes with the most votes, and the right one in any case."""
    order = sorted(range(len(counts)), key=lambda index: (-counts[index], index))
    shown = [index for index in order[:_TOP] if counts[index] or index == label]
    shown += [label] * (label not in shown)
    total = max(sum(counts), 1)
    return tuple(Bar(classes[index], counts[index], counts[index] / total, index == label) for index in shown)
