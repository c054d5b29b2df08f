"""The fifteen common corruptions of Hendrycks & Dietterich 2019 (arXiv:1903.12261) at five strengths each.

They are computed here from their published definitions. Each is one function of an image, its parameters and a source
of draws, in the file of its family, and one line of ``table.KINDS``. ``corrupted`` applies one to images: an image gets
the same corruption whatever the images beside it.
"""

from __future__ import annotations

from rushkit.corruptions.corrupt import Parameters, check_images, corrupted, parameters_of
from rushkit.corruptions.table import KINDS, Kind

__all__ = ["KINDS", "Kind", "Parameters", "check_images", "corrupted", "parameters_of"]
