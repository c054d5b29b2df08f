"""The input gradients of −log p̄ at the attacked images: whether they are there, and whether draws agree on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.attacks.losses import nll
from rushkit.attacks.result import no_finite_gradient
from rushkit.attacks.symptoms import without_slope
from rushkit.attacks.victim import under_attack
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed


@dataclass(frozen=True)
class Gradients:
    """Input gradients of −log p̄ at the images, each from ``eot`` draws.

    Attributes:
        zero: For each image, whether every entry is 0.
        zero_entries: Share of entries that are 0, of the images whose gradients are finite.
        cosines: For each image with two gradients that are not 0, the cosine between them; their draws are independent.
        saturated: Share of draws whose −log p of the label is exactly 0 in float32, and so has no gradient.
        not_finite: For each image, whether a gradient is NaN or infinite; it does not count as 0.
    """

    zero: tuple[bool, ...]
    zero_entries: float
    cosines: tuple[float, ...]
    saturated: float
    not_finite: tuple[bool, ...] = ()


def input_gradients(g: SmoothedClassifier, x: Tensor, y: Tensor, eot: int, seed: int) -> tuple[Gradients, int]:
    """Return two gradients of each image from independent draws, and the backward passes that they took.

    Args:
        g: The model under its noise.
        x: (N, C, H, W) images in [0, 1].
        y: (N,) labels.
        eot: Draws in each gradient.
        seed: Seeds the draws.

    Raises:
        NumericsError: no gradient is finite.
        UsageError: the model's output does not depend on its input differentiably.
    """
    with under_attack(g, x, derived_seed(seed, "audit gradient"), eot) as victim:
        pair = [victim.gradient(x, y, nll, draw=derived_seed(seed, "audit gradient", half)) for half in range(2)]
    if not any(slope.usable.any() for slope in pair):
        raise no_finite_gradient()
    both = torch.stack([slope.gradient.flatten(1) for slope in pair]).double()
    logits = torch.cat([slope.logits for slope in pair])
    surprise = torch.log_softmax(logits, dim=2).gather(2, y.expand(len(logits), -1)[..., None])
    # Gradients that are not finite come as 0, which they are not.
    finite = torch.stack([slope.usable for slope in pair]).all(dim=0)
    zero = without_slope(both) & finite
    usable = (both != 0).any(dim=2).all(dim=0)
    largest = both[:, usable].abs().amax(dim=2, keepdim=True)
    one, other = both[:, usable] / largest
    gradients = Gradients(
        zero=tuple(zero.tolist()),
        zero_entries=float((both[:, finite] == 0).double().mean()) if finite.any() else 0.0,
        cosines=tuple(torch.nn.functional.cosine_similarity(one, other, dim=1).tolist()),
        saturated=float((surprise == 0).double().mean()),
        not_finite=tuple((~finite).tolist()),
    )
    return gradients, victim.image_backwards
