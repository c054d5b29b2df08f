"""The published figures of every method, as data: Table 1 of the RUSH paper, and what its rows really are."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from rushkit.recipe import toml
from rushkit.recipe.sections import Norm, Number

FILE = Path(__file__).with_suffix(".toml")


def _share(percent: object) -> object:
    """87.9 -> 0.879, without the rounding error of a division; other values pass through for pydantic to judge."""
    return round(percent / 100, 6) if isinstance(percent, int | float) and not isinstance(percent, bool) else percent


Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
Words = Annotated[str, Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class CertifiedShare(_Table):
    """The share of all images that is proved right at a radius.

    Attributes:
        radius: Pixel units.
        share: In [0, 1]; the file has percent.
    """

    radius: Annotated[Number, Field(ge=0)]
    share: Share


class PublishedRow(_Table):
    """What one source says of one model.

    Attributes:
        key: Names the row.
        method: The method, as the source calls it.
        objective: The objective by which rushkit trains it: of pre-training, or of fine-tuning where that is all.
        data: Data sets of pre-training and of fine-tuning and test; the same twice without pre-training.
        network: The network, as far as it is known.
        protocol: How the figures were measured, as published or as the code has it.
        source: Where they stand.
        what: What the row really is.
        finetuning: What was trained on the pre-trained encoder: a ``linear`` head, or the ``full`` network; empty where
            neither is known to be so.
        table_1: Whether it stands in Table 1 of the RUSH paper.
        extra_data: What else the model was trained on; empty if nothing.
        samples: m of a vote of RUSH; None for any other method.
        standard: Accuracy on clean images, a share like all that follow; None where the source has none.
        pgd: What is printed as accuracy under PGD, whatever it is.
        autoattack: The same under AutoAttack.
        robust: Robust accuracy under an attack that is neither, or is not known.
        sigma: Standard deviation of the Gaussian noise of a certificate, pixel units.
        norm: Norm of the certified ball.
        acr: Average certified radius.
        certified: Certified accuracy by radius, in order.
        notes: Mistakes and gaps of the source.
        open: What was not seen in code or data, and must be checked before it is quoted.
    """

    key: Words
    method: Words
    objective: Words
    data: Annotated[tuple[Words, Words], BeforeValidator(lambda value: tuple(value) if type(value) is list else value)]
    network: Words
    protocol: Words
    source: Words
    what: Words
    finetuning: Literal["", "linear", "full"] = ""
    table_1: bool = False
    extra_data: str = ""
    samples: Annotated[int, Field(ge=1)] | None = None
    standard: Share | None = None
    pgd: Share | None = None
    autoattack: Share | None = None
    robust: Share | None = None
    sigma: Annotated[float, Field(gt=0)] | None = None
    norm: Norm | None = None
    acr: Annotated[float, Field(ge=0)] | None = None
    certified: list[CertifiedShare] = Field(default=[])
    notes: list[Words] = Field(default=[])
    open: list[Words] = Field(default=[])

    @property
    def pretrained_on(self) -> str:
        """Data set of pre-training."""
        return self.data[0]

    @property
    def finetuned_on(self) -> str:
        """Data set of fine-tuning and test."""
        return self.data[1]

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        figures = (self.standard, self.pgd, self.autoattack, self.robust, self.acr)
        if all(figure is None for figure in figures):
            raise ValueError("has no figure")
        if (self.acr is None) != (self.sigma is None) or (self.acr is None) != (self.norm is None):
            raise ValueError("a certificate has an acr, a norm and a sigma")
        radii = [point.radius for point in self.certified]
        shares = [point.share for point in self.certified]
        if radii != sorted(set(radii)) or shares != sorted(shares, reverse=True):
            raise ValueError("certified accuracy falls as the radius grows")
        return self


class _File(_Table):
    row: list[PublishedRow]


@cache
def published_rows() -> tuple[PublishedRow, ...]:
    """Return every published row, those of Table 1 first.

    Example::

        for row in published_rows():
            print(row.method, row.network, row.standard, row.what)
    """
    return tuple(_File.model_validate(toml.loads(FILE.read_text(encoding="utf-8"))).row)


def table_1() -> tuple[PublishedRow, ...]:
    """Return the rows of the RUSH paper's Table 1: RUSH, then the other methods."""
    return tuple(row for row in published_rows() if row.table_1)
