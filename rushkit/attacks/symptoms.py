"""Signs that an attack will say little of a model: probabilities in place of logits, and gradients that are zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rushkit.attacks.guard import untouched
from rushkit.attacks.result import AttackNote
from rushkit.checked import checked_logits
from rushkit.models.answers import answer_kind
from rushkit.models.precision import as_taken
from rushkit.noises import Noise, noisy_images
from rushkit.system import generator

# Images that are looked at, and the noisy copies of each.
IMAGES, DRAWS = 16, 4
# How far from 1 the sum of probabilities may be.
_SUM = 1e-4


def are_probabilities(outputs: Tensor, rounding: float = 0.0) -> bool:
    """Return whether all outputs (N, K) are probabilities: within [0, 1], of a sum that is 1 but for rounding."""
    error = (outputs.sum(dim=1) - 1).abs().amax()
    within = outputs.amin() >= 0 and outputs.amax() <= 1
    return bool(within and error <= max(_SUM, rounding))


def without_slope(gradients: Tensor) -> Tensor:
    """Return (N,) bool, whether every entry of every gradient of an image is exactly 0: (m, N, D) -> (N,)."""
    return (gradients == 0).all(dim=2).all(dim=0)


def _look(model: nn.Module, noisy: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits (n, K) of noisy images, and the gradients (n, C, H, W) of their cross-entropies."""
    noisy = noisy.clone().requires_grad_()
    outputs = checked_logits(model(as_taken(model, noisy)), len(noisy))
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(outputs.float(), labels, reduction="sum"), noisy)
    return outputs.detach(), gradient


def symptoms(model: nn.Module, noise: Noise, x: Tensor, y: Tensor, seed: int, chunk: int = 0) -> tuple[AttackNote, ...]:
    """Return a note for each sign that a few noisy images show; none where the model fails on them.

    Args:
        model: The network without its noise; it is left as it was.
        noise: Its noise.
        x: (N, C, H, W) images in [0, 1]; the first 16 are looked at.
        y: (N,) labels.
        seed: Seeds the noise.
        chunk: Images of a pass at most; 0: all noisy copies together.
    """
    if answer_kind(model) != "logits":
        return ()
    x, y = x[:IMAGES], y[:IMAGES]
    copies = x.repeat(DRAWS, 1, 1, 1)
    with torch.inference_mode(False), untouched(model, seed), torch.enable_grad():
        noisy = noisy_images(noise, copies, generator(seed, "attack symptoms", device=x.device))
        pieces = zip(noisy.detach().split(chunk or len(noisy)), y.repeat(DRAWS).split(chunk or len(noisy)), strict=True)
        try:
            looks = [_look(model, piece, labels) for piece, labels in pieces]
        except Exception:  # noqa: BLE001 - whatever is wrong with the model, the attack itself reports it
            return ()
    outputs, gradient = (torch.cat(parts) for parts in zip(*looks, strict=True))
    found = []
    if are_probabilities(outputs.double()):
        text = (
            "the model returns probabilities, and the losses take a softmax of them again, which flattens every slope: "
            "let it return logits or log p, or say --answers probabilities (RK132)"
        )
        found.append(AttackNote("outputs-are-probabilities", text))
    flat = int(without_slope(gradient.reshape(DRAWS, len(x), -1)).sum())
    if flat:
        text = (
            f"before any attack the gradient of the loss is exactly zero at {flat} of {len(x)} images: an attack by "
            "gradients is blind there, and its figures say little (RK104)"
        )
        found.append(AttackNote("slopes-zero", text))
    return tuple(found)
