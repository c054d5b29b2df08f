"""What an audit may be told about its subject, besides the model, the images and the budgets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from rushkit.attacks.pgd import PGD
from rushkit.auditing.planted import Features, MakesAttack
from rushkit.data.memory import limit_indices
from rushkit.errors import UsageError


@dataclass(frozen=True)
class Given:
    """What an audit may be told about its subject.

    Attributes:
        features: (N, C, H, W) -> (N, F), the features in which examples are planted; None means the model's logits.
        classes: K, the number of classes of the data; 0 means as many as the model has outputs.
        training: Training images (N, C, H, W) in [0, 1] and their labels (N,), of which an audit takes as many as it
            has images; None if there are none at hand.
        attack: Makes the attack under doubt, which every sweep varies.
        why_no_training: Why there are no training images at hand.
        claim: The share of all images that is said to stay right under attack; None if nothing is claimed.

    Raises:
        UsageError: the claim lies outside [0, 1].
    """

    features: Features | None = None
    classes: int = 0
    training: tuple[Tensor, Tensor] | None = None
    attack: MakesAttack = PGD
    why_no_training: str = "no training images were given"
    claim: float | None = None

    def __post_init__(self) -> None:
        check_claim(self.claim)

    def limited(self, images: int) -> Given:
        """Return the same with at most so many training images, chosen by ``limit_indices``."""
        few = None if self.training is None else limit_indices(len(self.training[0]), images)
        if few is None or self.training is None:
            return self
        x, y = self.training
        return replace(self, training=(x[few.to(x.device)], y[few.to(y.device)]))


def check_claim(claim: float | None) -> None:
    """Raise UsageError for a claimed accuracy that is not a share; None is no claim."""
    # NaN lies in no interval.
    if claim is not None and not 0 <= claim <= 1:
        raise UsageError(
            f"a claim is the share of images that stays right, within [0, 1] (got {claim:g})", "such as 0.65"
        )


# Nothing is known besides the model and the images.
ALONE = Given()
