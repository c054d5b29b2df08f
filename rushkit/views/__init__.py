"""SimCLR's random views T of a whole batch at once, on the batch's device, with separate parameters for every image.

The distribution is that of the paper's appendix A: torchvision's RandomResizedCrop, RandomHorizontalFlip, ColorJitter
under RandomApply and RandomGrayscale, in this order. `Views` combines both steps: `sample_parameters` draws and
`apply_views` computes; `weakened` makes them weaker. `CropFlip` is the milder augmentation of fine-tuning, and
`high_pass` takes the low frequencies out of an image.
"""

from __future__ import annotations

from rushkit.recipe.schema import ViewSettings
from rushkit.views.apply import Views, apply_views
from rushkit.views.crop_flip import CropFlip, apply_crop_flip
from rushkit.views.high_pass import high_pass
from rushkit.views.parameters import ViewParameters, sample_parameters
from rushkit.views.strength import weakened

__all__ = [
    "CropFlip",
    "ViewParameters",
    "ViewSettings",
    "Views",
    "apply_crop_flip",
    "apply_views",
    "high_pass",
    "sample_parameters",
    "weakened",
]
