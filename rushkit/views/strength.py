"""How strong random views are, as a number between 0 and 1 that an objective may change over a run."""

from __future__ import annotations

from rushkit.errors import UsageError
from rushkit.recipe.schema import ViewSettings


def weakened(settings: ViewSettings, strength: float) -> ViewSettings:
    """Return the distribution of views of a strength s (Luo et al. 2023, section 4.1): 1 leaves it as it is.

    The shares of the image in a crop, a to b, become 1 − s(1 − a) to 1 − s(1 − b). What the colour operations may
    change, and the probabilities of them and of grey, are multiplied by s. Flips stay.

    >>> weakened(ViewSettings(scale=[0.1, 1.0]), 0.5).scale
    [0.55, 1.0]

    Args:
        settings: The distribution at strength 1.
        strength: s, in [0, 1].

    Raises:
        UsageError: a strength outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise UsageError(f"the strength of views must be between 0 and 1 (got {strength!r})")
    scaled = ("brightness", "contrast", "saturation", "hue", "jitter_p", "grayscale")
    changes: dict[str, object] = {name: strength * getattr(settings, name) for name in scaled}
    changes["scale"] = [1 - strength * (1 - share) for share in settings.scale]
    return settings.model_copy(update=changes)
