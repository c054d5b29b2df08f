"""What the checks of an artifact look at, and the codes of their findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rushkit.attacks.norms import length
from rushkit.claims.artifact import Artifact
from rushkit.claims.evidence import Missing, NamedModel, Originals
from rushkit.claims.scoring import MOST_SAMPLES, Judge, Scores
from rushkit.recipe.schema import Norm
from rushkit.results.notes import Check, Status
from rushkit.setup.components import to_float

# Code -> what is wrong where the check fails. RV19 to RV21 are of certificates.
NAMES: Mapping[str, str] = {
    "RV00": "chain-broken",
    "RV01": "outside-the-ball",
    "RV02": "outside-the-pixels",
    "RV03": "not-8-bit",
    "RV04": "other-originals",
    "RV05": "images-selected",
    "RV06": "labels-swapped",
    "RV07": "other-weights",
    "RV08": "other-reading",
    "RV09": "outcomes-changed",
    "RV10": "clean-outcomes-changed",
    "RV11": "not-attacked",
    "RV12": "weaker-attack",
    "RV13": "lucky-votes",
    "RV14": "batch-dependent",
    "RV15": "rejections-as-right",
    "RV16": "file-altered",
    "RV17": "hostile-names",
    "RV18": "other-kind",
    "RV22": "other-attack",
}
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
# Images whose distances are computed together.
_BLOCK = 256


def finding(code: str, status: Status, says: str, **figures: float) -> Check:
    """Return a finding under the code's name."""
    return Check(code=code, name=NAMES[code], status=status, says=says, figures={**figures})


def not_checked(code: str, missing: Missing | str) -> Check:
    """Return the finding of a check that could not be made."""
    why = missing if isinstance(missing, str) else f"{missing.why}; {missing.give}"
    return finding(code, "skipped", f"not checked: {why}")


@dataclass(frozen=True)
class Case:
    """An artifact with all that it is checked against.

    Attributes:
        artifact: The artifact.
        originals: The data set's images.
        model: The model.
        is_file: Whether it was read from a file, and not packed here from a run.
        judge: The model as it votes here; None if it is not at hand, or must not be asked.
        attacked: Its scores of the attacked images; None likewise.
        clean: Its scores of the originals; None likewise.
        unanswered: Why the model, though asked, gave no answers; empty if it did, or was not asked.
    """

    artifact: Artifact
    originals: Originals | Missing
    model: NamedModel | Missing
    is_file: bool
    judge: Judge | None = None
    attacked: Scores | None = None
    clean: Scores | None = None
    unanswered: str = ""

    @cached_property
    def distances(self) -> dict[Norm, Tensor]:
        """The distance of each attacked image from its original in each norm: (N,) float64; only with originals."""
        assert isinstance(self.originals, Originals)
        images = self.originals.images
        return {norm: self._apart(self.artifact.images, images, norm) for norm in NORMS}

    @cached_property
    def rounded_distances(self) -> Tensor:
        """(N,) float64, the distance in the attack's norm after rounding to 8 bits; only with originals."""
        assert isinstance(self.originals, Originals)
        rounded = (self.artifact.images.nan_to_num(0.0, 0.0, 0.0).double() * 255).round() / 255
        return self._apart(rounded, self.originals.images, self.artifact.manifest.attack.norm)

    def _apart(self, images: Tensor, originals: Tensor, norm: Norm) -> Tensor:
        parts = [
            length(some.double() - to_float(clean).double(), norm)
            for some, clean in zip(images.split(_BLOCK), originals.split(_BLOCK), strict=True)
        ]
        return torch.cat(parts)

    @cached_property
    def in_box(self) -> bool:
        """Whether every pixel is finite and lies within [0, 1]."""
        images = self.artifact.images
        return bool(torch.isfinite(images).all()) and float(images.min()) >= 0 and float(images.max()) <= 1

    @cached_property
    def labels_fit(self) -> bool:
        """Whether every label is a class."""
        labels = self.artifact.labels
        return int(labels.min()) >= 0 and int(labels.max()) < len(self.artifact.manifest.data.classes)

    @property
    def why_unscored(self) -> str:
        """Why the images were not scored here; empty if nothing hindered it."""
        missing = self.originals.why if isinstance(self.originals, Missing) else ""
        return self.why_unasked or self.unanswered or missing

    @property
    def why_unasked(self) -> str:
        """Why the model must not be shown the images; empty if it may."""
        if isinstance(self.model, Missing):
            return self.model.why
        if not self.in_box:
            return "pixels outside [0, 1] are no images"
        if not self.labels_fit:
            return "some labels are no classes"
        if list(self.model.classifier.classes) != self.artifact.manifest.data.classes:
            return "the model has other classes"
        m = self.artifact.manifest.attack.samples
        return f"a vote of {m} draws takes too long: of {MOST_SAMPLES} at most it is taken" if m > MOST_SAMPLES else ""
