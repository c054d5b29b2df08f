"""What an audit may be told about its subject, beside the model, the images and the budgets."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rushkit.attacks.pgd import PGD
from rushkit.auditing.planted import Features, MakesAttack


@dataclass(frozen=True)
class Given:
    """What an audit may be told about its subject.

    Attributes:
        features: (N, C, H, W) -> (N, F), the features in which examples are planted; None means the model's logits.
        classes: K, the number of classes of the data; 0 means as many as the model has outputs.
        training: Training images (N, C, H, W) in [0, 1] and their labels (N,); None if there are none at hand.
        attack: Makes the attack under doubt, which every sweep varies.
    """

    features: Features | None = None
    classes: int = 0
    training: tuple[Tensor, Tensor] | None = None
    attack: MakesAttack = PGD


# Nothing is known beside the model and the images.
ALONE = Given()
