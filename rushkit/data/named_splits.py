"""Which split something is by its name, and how what has no such name is divided: for files that hold many images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from rushkit.data.memory import hold_out_indices
from rushkit.data.progress import say_once
from rushkit.errors import DataError, UsageError
from rushkit.rounding import percent

if TYPE_CHECKING:
    from torch import Tensor

WORDS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
Source = TypeVar("Source")


@dataclass(frozen=True)
class Part(Generic[Source]):
    """The images of one split.

    Attributes:
        source: What holds them.
        side: Which of its images they are, where they are divided into two splits; "" for all.
    """

    source: Source
    side: Literal["", "train", "test"] = ""

    def indices(self, images: int, labels: Tensor | None, holdout: float, name: str) -> Tensor | None:
        """Return the places of the images of this split among those of the source: int64; None for all of them.

        Raises:
            DataError: there are too few images for both splits.
        """
        if not self.side:
            return None
        count = round(holdout * images)
        if not 0 < count < images:
            raise DataError(
                f"{name}: {images} images cannot be divided into train and test",
                "make all of them one split: --set data.holdout=1",
            )
        training, held = hold_out_indices(images, labels, count, 0, name)
        return training if self.side == "train" else held


def split_word(text: str) -> str:
    """Return the split that a name tells of, such as ``train`` of "train-00000-of-00002" or "x_train"; "" for none."""
    words = [word for word in re.split(r"[^a-z]+", text.lower()) if word in WORDS]
    return WORDS[words[0]] if words else ""


def check_holdout(holdout: float) -> float:
    """Return the share of images that become ``test``. Raises UsageError unless it lies in [0, 1]."""
    if not 0 <= holdout <= 1:
        raise UsageError(f"holdout must lie in [0, 1] (got {holdout:g})", "for example 0.2")
    return holdout


def arranged(found: Mapping[str, Source], called: str, holdout: float, what: str) -> dict[str, Part[Source]]:
    """Return the splits by name, ``train`` and ``test`` first.

    What is named for validation is ``test`` where there is no other, as in a folder of images. What has no name of a
    split is the one that ``called`` tells of, or else is divided.

    Args:
        found: What is there of each split; under "" what no name tells of.
        called: The name of what holds it.
        holdout: The share of the images that becomes ``test`` where they are divided; 0 and 1 make one split.
        what: What it is, for messages.
    """
    named = {name: Part(source) for name, source in found.items() if name}
    if not named:
        (source,) = found.values()
        own = split_word(called)
        if own == "train" or (not own and holdout == 0):
            return {"train": Part(source)}
        if own or holdout == 1:
            return {"test": Part(source)}
        say_once(
            f"{what} has no names of splits: {percent(holdout)} % of each class, drawn once and for all, are the split "
            "test, the others train; data.holdout sets the share"
        )
        return {"train": Part(source, "train"), "test": Part(source, "test")}
    if "validation" in named and "test" not in named:
        named["test"] = named.pop("validation")
    order = ("train", "test")
    return {name: named[name] for name in (*(name for name in order if name in named), *sorted({*named} - {*order}))}
