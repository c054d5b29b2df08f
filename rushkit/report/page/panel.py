"""A few images as the model sees them: clean, attacked, the change, one noisy look, and the votes that were counted."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from math import ceil

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from rushkit.errors import RushkitError
from rushkit.noises import noisy_images
from rushkit.report.families import MODEL_VERBS, Family
from rushkit.report.page.cards import Panel, Tile, View
from rushkit.report.page.outcomes import CONTRASTED, Outcome, measured_images
from rushkit.setup import components
from rushkit.system import generator

# Images shown of each kind of outcome.
_EACH = 3
# The longest side that a page carries, pixels: the noise of larger images makes it heavy.
_MOST_SIDE = 96


def panel(family: Family, name: str) -> Panel | None:
    """Return the panel of a model, or a sentence where its data are not there; None for an encoder.

    No model runs, and nothing is downloaded. The noisy look follows from the recipe's seed.
    """
    if family.model.about.model is None and family.model.stage not in MODEL_VERBS:
        return None
    try:
        return _panel(family, name)
    except RushkitError as error:
        return Panel(name, f"No images of {name}: {error.message}")


def _panel(family: Family, name: str) -> Panel:
    measured = measured_images(family)
    shown = choose(measured.outcomes)
    x = components.to_float(measured.split.images[torch.tensor(shown, dtype=torch.int64)])
    noise = components.build_noise(measured.recipe)
    noisy = noisy_images(noise, x.clone(), generator(measured.recipe.system.seed, "report panel"))
    labels, places = measured.split.labels, measured.split.places
    assert labels is not None
    tiles = []
    for image, index in enumerate(shown):
        views = [View("clean", picture(x[image]), "clean")]
        if measured.adversarial is not None:
            views += _attacked_views(x[image], measured.adversarial[index])
        if not torch.equal(noisy[image], x[image]):
            views.append(View("noisy", picture(noisy[image]), "one noisy look"))
        outcome = measured.outcomes[index]
        tiles.append(
            Tile(
                truth=measured.classes[int(labels[index])],
                index=index if places is None else int(places[index]),
                outcome=outcome.words,
                views=tuple(views),
                tallies=outcome.tallies,
            )
        )
    return Panel(name, measured.caption, tuple(tiles))


def choose(outcomes: Sequence[Outcome]) -> list[int]:
    """Return the places of images of each contrasted outcome in turn; where those are few, others follow."""
    places: list[int] = []
    for kind in CONTRASTED:
        places += [place for place, outcome in enumerate(outcomes) if outcome.kind == kind][:_EACH]
    others = [place for place in range(len(outcomes)) if place not in places]
    return [*places, *others][: 2 * _EACH]


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

    Three channels or more are shown by the first three, as red, green and blue; fewer as their mean, in grey. An image
    with a side above 96 pixels is averaged over squares until it has none.
    """
    shown = x[:3] if len(x) >= 3 else x.mean(dim=0, keepdim=True)
    shown = shown.detach().clamp(0, 1)
    square = ceil(max(shown.shape[1:]) / _MOST_SIDE)
    if square > 1:
        shown = avg_pool2d(shown, square, ceil_mode=True)
    pixels = (shown * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(2).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _attacked_views(x: Tensor, x_adv: Tensor) -> list[View]:
    change, factor = magnified(x, x_adv)
    words = f"change × {factor:.3g}" if factor else "no change"
    return [View("attacked", picture(x_adv), "attacked"), View("change", picture(change), words)]
