"""Broken defences whose slopes lead an attack astray, devised after the thresholds were fixed.

Two are expected to be hard to catch. ``ReverseSigmoid`` gives the true slope of its own output: it is the output that
falls where the network behind it becomes more certain. ``NearestAnswer`` is piecewise constant but for a faint network,
whose slope is true as well wherever the nearest neighbour stays the same.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import SATURATION, SLOPES
from rushkit.auditing.selftest.ground import CLASSES, Ground

EPS = 0.15
# The step of JPEG's quantisation at quality 50 for each frequency (ITU-T T.81, table K.1).
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_BLOCK = 8


class Compression(nn.Module):
    """JPEG's quantisation of 8x8 blocks of each channel, with the identity as its slope.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
        strength: The steps of the quantisation as a multiple of those at quality 50.
    """

    def __init__(self, network: nn.Module, strength: float = 2.0) -> None:
        super().__init__()
        self.network = network
        frequency = torch.arange(_BLOCK, dtype=torch.float32)
        cosines = torch.cos(math.pi / _BLOCK * (frequency + 0.5) * frequency[:, None]) * math.sqrt(2 / _BLOCK)
        cosines[0] /= math.sqrt(2)
        self.register_buffer("cosines", cosines)
        self.register_buffer("size", strength / 255 * torch.tensor(_LUMINANCE, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W), H and W multiples of 8."""
        return cast(Tensor, self.network(x + (self.compressed(x.detach()) - x.detach())))

    def compressed(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W) as JPEG would decode them."""
        n, c, h, w = x.shape
        cosines, size = cast(Tensor, self.cosines), cast(Tensor, self.size)
        blocks = x.reshape(n, c, h // _BLOCK, _BLOCK, w // _BLOCK, _BLOCK).transpose(3, 4) - 0.5
        coded = cosines @ blocks @ cosines.T
        coded = (coded / size).round() * size
        decoded = cosines.T @ coded @ cosines + 0.5
        return decoded.transpose(3, 4).reshape(n, c, h, w).clamp(0, 1)


class ReverseSigmoid(nn.Module):
    """Probabilities that are perturbed the more the surer they are, p - b (sigmoid(g logit p) - 1/2) (Lee et al. 2018).

    Where p is near 1 or 0 the perturbed probability falls as p rises: an attack that lowers the label's makes the
    network surer of it.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
        strength: b, of the perturbation.
        slope: g, of the sigmoid.
    """

    def __init__(self, network: nn.Module, strength: float = 0.7, slope: float = 0.2) -> None:
        super().__init__()
        self.network, self.strength, self.slope = network, strength, slope

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) log-probabilities of images (N, C, H, W)."""
        log_p = torch.log_softmax(self.network(x), dim=1)
        itself = torch.eye(log_p.shape[1], dtype=torch.bool, device=x.device)
        # log(1 - p), from the other classes: 1 - p rounds to 0 where p is near 1.
        others = torch.logsumexp(log_p[:, None].masked_fill(itself, -torch.inf), dim=2)
        perturbed = log_p.exp() - self.strength * (torch.sigmoid(self.slope * (log_p - others)) - 0.5)
        return (perturbed / perturbed.sum(dim=1, keepdim=True)).clamp(min=1e-6).log()


class AntiAdversary(nn.Module):
    """A network that moves every image towards its own answer before it answers (Alfarra et al. 2022).

    Args:
        network: (N, C, H, W) -> (N, K) logits.
        size: The length of a step, pixel units.
        steps: Number of steps.
    """

    def __init__(self, network: nn.Module, size: float = 0.15, steps: int = 4) -> None:
        super().__init__()
        self.network, self.size, self.steps = network, size, steps

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W); slopes take the way for a constant."""
        return cast(Tensor, self.network(x + self._way(x.detach())))

    @torch.enable_grad()
    def _way(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) the sum of the steps that raise the probability of the likeliest class."""
        way = torch.zeros_like(x)
        answer = self.network(x).argmax(dim=1).detach()
        for _ in range(self.steps):
            moved = (x + way).requires_grad_()
            loss = nn.functional.cross_entropy(self.network(moved), answer, reduction="sum")
            (slope,) = torch.autograd.grad(loss, moved)
            way = way - self.size * slope.sign()
        return way


class HalfPrecision(nn.Module):
    """A network that passes its images on in float16, scaled, so that most slopes underflow on their way back.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
        scale: What the images are multiplied by in between.
    """

    def __init__(self, network: nn.Module, scale: float = 2.0**12) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        return cast(Tensor, self.network((self.scale * x).half().float() / self.scale))


class NearestAnswer(nn.Module):
    """A vote of the label of the nearest training image in l2, beside a faint network.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
        images: (M, C, H, W) training images.
        labels: (M,) their labels.
        gain: The logit of the nearest image's label.
        faint: What the network's logits are multiplied by.
    """

    def __init__(
        self, network: nn.Module, images: Tensor, labels: Tensor, gain: float = 5.0, faint: float = 0.02
    ) -> None:
        super().__init__()
        self.network, self.gain, self.faint = network, gain, faint
        self.register_buffer("images", images.flatten(1))
        self.register_buffer("labels", labels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W); slopes are those of the faint network."""
        nearest = torch.cdist(x.detach().flatten(1), cast(Tensor, self.images)).argmin(dim=1)
        answer = nn.functional.one_hot(cast(Tensor, self.labels)[nearest], CLASSES)
        return self.gain * answer + self.faint * cast(Tensor, self.network(x))


class SoftNeighbours(nn.Module):
    """The logarithm of each class's share of training images, weighted by how near they are, as a stand-in.

    Args:
        images: (M, C, H, W) training images.
        labels: (M,) their labels.
        width: The squared distance at which a weight falls to 1/e.
    """

    def __init__(self, images: Tensor, labels: Tensor, width: float = 1.0) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("images", images.flatten(1))
        self.register_buffer("labels", labels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        flat, images = x.flatten(1), cast(Tensor, self.images)
        squares = flat.square().sum(1, keepdim=True) - 2 * flat @ images.T + images.square().sum(1)
        foreign = torch.arange(CLASSES, device=x.device)[:, None] != cast(Tensor, self.labels)
        return torch.logsumexp((-squares / self.width)[:, None].masked_fill(foreign, -torch.inf), dim=2)


def _jpeg_and_reverse_sigmoid(ground: Ground) -> Planted:
    compressing = Compression(ground.base)
    return Planted(ReverseSigmoid(compressing), stand_in=compressing)


def _anti_adversary(ground: Ground) -> Planted:
    return Planted(AntiAdversary(ground.base), stand_in=ground.base)


def _half_precision(ground: Ground) -> Planted:
    return Planted(HalfPrecision(ground.base), stand_in=ground.base)


def _nearest_answer(ground: Ground) -> Planted:
    return Planted(NearestAnswer(ground.base, *ground.train), stand_in=SoftNeighbours(*ground.train))


# False slopes, behind logits that saturate.
_BOTH = tuple(dict.fromkeys((*SLOPES, *SATURATION)))

CASES = (
    Case("JPEG + reverse sigmoid", "broken", "linf", EPS, _jpeg_and_reverse_sigmoid, SLOPES, held_out=True),
    Case(
        "anti-adversary",
        "broken",
        "linf",
        EPS,
        _anti_adversary,
        tuple(dict.fromkeys((*SLOPES, *SATURATION))),
        held_out=True,
    ),
    Case("float16 that underflows", "broken", "linf", EPS, _half_precision, SLOPES, held_out=True),
    Case("nearest neighbour, faint net", "broken", "linf", EPS, _nearest_answer, SLOPES, held_out=True),
)
