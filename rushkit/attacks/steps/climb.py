"""What all step rules have in common: images that climb together, leave in the middle, and can be saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from rushkit.attacks import Norm


class Climb(ABC):
    """n images that climb a loss together, each from its start and within its ball.

    A driver computes the loss and its gradient at ``x_adv`` and passes them to ``tell``, ``steps`` times. No image's
    path depends on the others: any of them may leave in between. ``tensors`` returns the state between two steps, and
    ``restore`` resumes from it bit for bit.

    Args:
        x: (n, C, H, W) clean images in [0, 1].
        start: (n, C, H, W) where they start, within ball and box.
        norm: The norm of the ball.
        eps: The radius of the ball, pixel units.
        steps: Number of steps.

    Attributes:
        x_adv: (n, C, H, W) where the next gradient is to be taken; after the last step, where the climb ends.
        step: Number of steps taken so far.
        steps: Number of steps in all.
        improved: (n,) bool, whether the last loss is this image's largest so far.
        largest: (n,) the largest loss so far.
    """

    # The radius of the ball that it starts in, in units of eps.
    first_radius = 1.0
    # The attributes with one row for each image, besides x; subclasses add their own.
    rows: tuple[str, ...] = ("x_adv", "improved", "largest")

    def __init__(self, x: Tensor, start: Tensor, norm: Norm, eps: float, steps: int) -> None:
        self.x, self.x_adv = x, start
        self.norm, self.eps = norm, eps
        self.step, self.steps = 0, steps
        self.improved = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.largest = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)

    def tell(self, loss: Tensor, gradient: Tensor) -> None:
        """Take the step that follows from the loss (n,) and its gradient (n, C, H, W) at ``x_adv``."""
        loss = loss.to(self.largest.dtype)
        self.improved = loss > self.largest
        self.largest = torch.where(self.improved, loss, self.largest)
        self.move(loss, gradient)
        self.step += 1

    @property
    def inside(self) -> bool:
        """Whether ``x_adv`` lies in the ball; a rule that first climbs in larger balls overrides this."""
        return True

    @abstractmethod
    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Replace ``x_adv`` by the next point; ``improved`` and ``largest`` already include this loss."""

    def keep(self, stay: Tensor) -> None:
        """Keep the images for which ``stay`` (n,) is true and drop the others."""
        for name in ("x", *self.rows):
            setattr(self, name, getattr(self, name)[stay])

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by name: with the clean images and the settings, all that ``restore`` needs."""
        return {"step": torch.tensor(self.step)} | {name: getattr(self, name) for name in self.rows}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Resume from a state of the same images; this climb must have been created with the same settings."""
        self.step = int(tensors["step"])
        for name in self.rows:
            setattr(self, name, tensors[name].to(self.x.device))


def per_image(rows: Tensor) -> Tensor:
    """Return (n,) values as (n, 1, 1, 1), to go with images."""
    return rows.view(-1, 1, 1, 1)
