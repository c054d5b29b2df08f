"""Broken defences whose answers are random by themselves, or look so: one draw held for a whole attack hides much."""

from __future__ import annotations

import hashlib
from functools import partial

import torch
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import HASHED_NOISE, RANDOMNESS
from rushkit.auditing.selftest.ground import Ground, convolutional, in_noise, inserted
from rushkit.noises.gaussian import Gaussian

EPS = 0.15
# Images are resized to between these sides, and padded to the larger one.
_SMALLEST, _LARGEST, _PADDED = 12, 16, 20
# Randomness needs more epochs than the base network.
_EPOCHS = 60
_SIGMA = 0.4
# Passes behind each slope of the right attack.
_EOT = 10


class ResizeAndPad(nn.Module):
    """A random size and a random place for each batch, also in eval mode (Xie et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return images (N, C, 20, 20) of images (N, C, H, W), which lie on black."""
        side = int(torch.randint(_SMALLEST, _LARGEST + 1, ()))
        room = _PADDED - side
        left, top = (int(torch.randint(room + 1, ())) for _ in range(2))
        small = nn.functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
        return nn.functional.pad(small, (left, room - left, top, room - top))


class AlwaysDropout(nn.Module):
    """Dropout that goes on in eval mode.

    Args:
        p: The share of entries that are dropped.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return x with entries dropped by torch's global generator, whatever the mode."""
        return nn.functional.dropout(x, self.p, training=True)


class HashNoise(nn.Module):
    """Gaussian noise whose seed is a hash of the image: the same image has the same noise, its neighbour another.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
        sigma: Standard deviation of the noise, pixel units.
    """

    def __init__(self, network: nn.Module, sigma: float = _SIGMA) -> None:
        super().__init__()
        self.network, self.sigma = network, sigma

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W); slopes take the noise for a constant."""
        noise = torch.stack([_noise_of(image) for image in x.detach()])
        logits: Tensor = self.network(x + self.sigma * noise)
        return logits


class Expected(nn.Module):
    """The mean logits of several passes of a random model: slopes of the expectation (Athalye et al. 2018).

    Args:
        model: (N, C, H, W) -> (N, K) logits, random by itself.
        draws: The number of passes.
    """

    def __init__(self, model: nn.Module, draws: int = _EOT) -> None:
        super().__init__()
        self.model, self.draws = model, draws

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        return torch.stack([self.model(x) for _ in range(self.draws)]).mean(dim=0)


class FreshNoise(nn.Module):
    """Gaussian noise that is new in every pass, from torch's global generator.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
        sigma: Standard deviation of the noise, pixel units.
    """

    def __init__(self, network: nn.Module, sigma: float = _SIGMA) -> None:
        super().__init__()
        self.network, self.sigma = network, sigma

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        logits: Tensor = self.network(x + self.sigma * torch.randn_like(x))
        return logits


def _noise_of(image: Tensor) -> Tensor:
    """Return standard normal noise (C, H, W) that depends on every byte of an image (C, H, W)."""
    plain = image.cpu().contiguous()
    digest = hashlib.blake2b(plain.numpy().tobytes(), digest_size=8).digest()
    source = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.randn(plain.shape, generator=source).to(image)


def _random(model: nn.Module) -> Planted:
    return Planted(model, stand_in=Expected(model))


def _resize_and_pad(ground: Ground) -> Planted:
    def make() -> nn.Module:
        return nn.Sequential(ResizeAndPad(), convolutional(side=_PADDED))

    return _random(ground.trained(make, "resize + pad", epochs=_EPOCHS))


def _with_dropout(rates: dict[int, float]) -> nn.Module:
    """Return the base network, untrained, with dropout before the layers of these numbers."""
    return inserted(convolutional(), {number: AlwaysDropout(rate) for number, rate in rates.items()})


def _dropout(ground: Ground) -> Planted:
    """Train the base network with dropout before its linear layers."""
    make = partial(_with_dropout, {5: 0.3, 7: 0.5})
    return _random(ground.trained(make, "dropout .3/.5", epochs=_EPOCHS))


def _more_dropout(ground: Ground) -> Planted:
    """Train the base network with dropout after each ReLU."""
    make = partial(_with_dropout, {2: 0.6, 4: 0.6, 7: 0.6})
    return _random(ground.trained(make, "dropout .6", epochs=_EPOCHS))


def _hash_noise(ground: Ground) -> Planted:
    network = ground.trained(convolutional, "hash", moved=in_noise(Gaussian(std=_SIGMA)))
    return Planted(HashNoise(network), stand_in=Expected(FreshNoise(network)))


CASES = (
    Case("resize + pad", "broken", "linf", EPS, _resize_and_pad, RANDOMNESS, naive="held"),
    Case("dropout .3/.5", "broken", "linf", EPS, _dropout, RANDOMNESS, naive="held"),
    Case("dropout .6", "broken", "linf", EPS, _more_dropout, RANDOMNESS, naive="held"),
    Case("noise by a hash", "broken", "linf", EPS, _hash_noise, HASHED_NOISE),
)
