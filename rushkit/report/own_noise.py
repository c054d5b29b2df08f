"""Which figures are under the noise that a model is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from rushkit.results.words import noise_words


class Noisy(Protocol):
    """A figure that depends on a noise."""

    @property
    def noise(self) -> dict[str, object]:
        """The noise as a table, with its name."""
        ...


Row = TypeVar("Row", bound=Noisy)


def under_its_noise(rows: Sequence[Row], about: Mapping[str, str]) -> list[Row]:
    """Return the rows under the noise that a model is for; all, where there are none.

    Args:
        rows: Figures of the model.
        about: What the model is, in words; ``noise`` among them, unless its recipe is gone.
    """
    return [row for row in rows if not other_noise(row.noise, about)] or list(rows)


def other_noise(noise: Mapping[str, object], about: Mapping[str, str]) -> str:
    """Return the noise of a figure where it is not the one that the model is for: "noise none"; else empty."""
    words = noise_words(noise)
    return "" if words == about.get("noise", words) else f"noise {words}"
