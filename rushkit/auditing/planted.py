"""Plant adversarial examples, and test whether an attack finds them.

If an attack finds nothing, the classifier may be robust, or the attack may be too weak. Zimmermann et al. 2022
("Increasing confidence in adversarial robustness evaluations") put a new two-class readout on the model's own features,
such that a known point of the ball has the other class. An attack that works on these features must find such a point.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm
from rushkit.attacks.abilities import Reports
from rushkit.attacks.norms import ascent, project, random_start
from rushkit.attacks.pgd import PGD
from rushkit.attacks.result import NothingFinite
from rushkit.models.draws import global_draws
from rushkit.noises import settled
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed, generator

Features = Callable[[Tensor], Tensor]
# Makes the attack under doubt, with the options of PGD; norm and eps come first.
MakesAttack = Callable[..., Reports]

# Draws that place the readout, those of each step towards the planted point, and those of the votes that prove the
# plant and judge the attack.
_PLACING_DRAWS, _STEP_DRAWS = 64, 16
_VOTE_DRAWS = 101
# A lead that chance hardly explains: three standard deviations of fair coin flips.
_CLEAR = 30
# Steps that take the planted point to where the features differ, and the part of the way at which the class changes.
_STEPS = 8
_THRESHOLDS = (0.75, 0.6, 0.5)
# Logits at the two ends.
_GAIN = 6.0


class CountedFeatures:
    """Features that count the images that go through them.

    Args:
        features: (N, C, H, W) -> (N, F).

    Attributes:
        passes: Images that went forward, and those that went backward.
    """

    def __init__(self, features: Features) -> None:
        self._features = features
        self.passes = 0

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features (N, F) of images (N, C, H, W)."""
        self.passes += len(x)
        found = self._features(x)
        if found.requires_grad:

            def count(_: Tensor) -> None:
                self.passes += len(x)

            found.register_hook(count)
        return found


class Readout(nn.Module):
    """A two-class readout of where the features lie between those of the image and those of the planted point.

    Args:
        model: The model of the features, kept as a submodule so that an attack handles its modules as usual.
        features: (N, C, H, W) -> (N, F).
        direction: (F,) from the image's mean features to the point's, scaled so that they lie 1 apart along it.
        origin: The position of the image's mean features along it.
        threshold: The position between 0 and 1 at which the class changes.
    """

    def __init__(self, model: nn.Module, features: Features, direction: Tensor, origin: Tensor, threshold: float):
        super().__init__()
        self.model = model
        self._features = features
        self._direction, self._origin, self._threshold = direction, origin, threshold

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 2) logits."""
        place = self._features(x).float() @ self._direction - self._origin
        margin = _GAIN * (place - self._threshold)
        return torch.stack([-margin, margin], dim=1)


def planting_passes(steps: int, eot: int, deterministic: bool) -> int:
    """Return the most passes through the features that ``plant_and_seek`` makes for an image."""
    place, step, vote, gradient = (
        1 if deterministic else draws for draws in (_PLACING_DRAWS, _STEP_DRAWS, _VOTE_DRAWS, eot)
    )
    placing = 3 * place + 2 * _STEPS * step + 2 * len(_THRESHOLDS) * vote
    # The attack asks for the classes first and for one draw last.
    return placing + 2 * steps * gradient + 2 + vote


def plant_and_seek(
    g: SmoothedClassifier,
    features: Features,
    x: Tensor,
    ball: tuple[Norm, float],
    steps: int,
    eot: int,
    seed: int,
    attack_of: MakesAttack = PGD,
) -> list[bool] | None:
    """Return, for each image in which an example could be planted, whether PGD finds one.

    Args:
        g: The model under its noise.
        features: (N, C, H, W) -> (N, F) of its base model.
        x: (N, C, H, W) images in [0, 1].
        ball: Its norm, and its radius in pixel units.
        steps: Steps of the attack.
        eot: Draws of noise in a gradient.
        seed: Seeds every draw.
        attack_of: Makes the attack that seeks.

    Returns:
        One outcome for each planted example that votes confirm; None if noise hides all of them.
    """
    norm, eps = ball
    outcomes = []
    for index in range(len(x)):
        image_seed = derived_seed(seed, "plant", index)
        readout = _plant(g, features, x[index : index + 1], norm, eps, image_seed)
        if readout is None:
            continue
        attack = attack_of(
            norm, eps, steps=steps, samples=eot, best="last", selection_samples=1, seed=derived_seed(image_seed, "seek")
        )
        zero = torch.zeros(1, dtype=torch.int64, device=x.device)
        try:
            x_adv = attack.run(readout, x[index : index + 1], zero).x_adv
        except NothingFinite as error:
            # Without a finite gradient it misses this one; votes tell if the logits are not finite either.
            x_adv = error.result.x_adv
        # An attack under doubt may leave the box; RK118 says so.
        outcomes.append(_lead(readout, x_adv.nan_to_num(0.0).clamp(0, 1)) > 0)
    return outcomes or None


def _plant(
    g: SmoothedClassifier, features: Features, x: Tensor, norm: Norm, eps: float, seed: int
) -> SmoothedClassifier | None:
    """Return a two-class classifier with an adversarial example that votes confirm; None if noise hides it."""
    point = _far_point(g, features, x, norm, eps, seed)
    here, there = (_mean_features(g, features, image, seed) for image in (x, point))
    way = there - here
    distance = way.square().sum()
    if not torch.isfinite(distance) or distance == 0:
        return None
    direction = way / distance
    for threshold in _THRESHOLDS:
        readout = Readout(g.model, features, direction, here @ direction, threshold)
        smoothed = SmoothedClassifier(
            readout, g.noise, _VOTE_DRAWS, g.chunk, derived_seed(seed, "readout"), own_draws=g.own_draws
        )
        if _lead(smoothed, x) < -_CLEAR and _lead(smoothed, point) > _CLEAR:
            return smoothed
    return None


def _far_point(g: SmoothedClassifier, features: Features, x: Tensor, norm: Norm, eps: float, seed: int) -> Tensor:
    """Return a point of the ball whose features are far from the image's, by a few steps from a random start."""
    here = _mean_features(g, features, x, seed)
    point = random_start(x, norm, eps, generator(seed, "plant start", device=x.device))
    if norm == "linf":
        point = project(x, x + eps * (point - x).sign(), norm, eps)
    for step in range(_STEPS):
        point = point.detach().requires_grad_()
        with torch.enable_grad():
            moved = _draw(g, features, point, _STEP_DRAWS, derived_seed(seed, "plant climb", step)).mean(0)
            distance = (moved - here).square().sum()
        (gradient,) = torch.autograd.grad(distance, point, allow_unused=True)
        if gradient is None or not torch.isfinite(gradient).all():
            break
        point = project(x, point.detach() + ascent(gradient, norm, eps / 2), norm, eps)
    return point.detach()


def _mean_features(g: SmoothedClassifier, features: Features, x: Tensor, seed: int) -> Tensor:
    with torch.no_grad():
        return _draw(g, features, x, _PLACING_DRAWS, derived_seed(seed, "plant features")).mean(0)


def _draw(g: SmoothedClassifier, features: Features, x: Tensor, draws: int, seed: int) -> Tensor:
    """Return the features (draws, F) of noisy copies of one image; of a single copy if nothing is random."""
    copies = x.expand(1 if g.deterministic else draws, *x.shape[1:])
    delta = g.noise.sample(copies.detach(), generator(seed, "draws", device=x.device))
    noisy = settled(g.noise, copies + delta)
    if not g.own_draws:
        return features(noisy).float()
    passes = []
    for draw, copy in enumerate(noisy.split(1)):
        # The model may share its randomness across a batch, so each draw is a pass of its own.
        with global_draws(seed, "draws of the model", draw, device=x.device):
            passes.append(features(copy).float())
    return torch.cat(passes)


def _lead(smoothed: SmoothedClassifier, x: Tensor) -> int:
    """Return by how many fresh votes the planted class leads."""
    votes = smoothed.votes(x)[0]
    return int(votes[1] - votes[0])
