"""Files that users read and that no record stands for as a whole."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from rushkit.recipe.schema import Recipe
from rushkit.recipe.sections import Section
from rushkit.results.base import Count, Number, Record
from rushkit.results.logs import CountsSubject, Estimation, Round, Selection, Splits


class MetricsLine(Section):
    """A line of metrics.jsonl; further keys are figures by name, such as ``loss``.

    Attributes:
        step: The step, counted from 1.
        epoch: The epoch, counted from 1.
        kind: Whether the figures are of one step or of a whole epoch.
        chain: Hash over that of the line before and this line; it tells damage.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float] = Field(init=False)

    step: Count
    epoch: Number
    kind: Literal["step", "epoch"]
    chain: str


class CountsHead(Record):
    """The first line of certify.jsonl.

    Attributes:
        subject: Everything that the counts depend on.
        chain: Hash over this line; it tells damage.
    """

    subject: CountsSubject
    chain: str


class SelectionLine(Selection):
    """A line of certify.jsonl on the draws that choose the classes of some images.

    Attributes:
        chain: Hash over that of the line before and this line; it tells damage.
    """

    chain: str


class EstimationLine(Estimation):
    """A line of certify.jsonl on the draws that bound the probability of these classes.

    Attributes:
        chain: As in ``SelectionLine``.
    """

    chain: str


class SplitsLine(Splits):
    """A line of certify.jsonl on the votes over all splits of some images.

    Attributes:
        chain: As in ``SelectionLine``.
    """

    chain: str


class RoundLine(Round):
    """A line of certify.jsonl on a round of sequential tests.

    Attributes:
        chain: As in ``SelectionLine``.
    """

    chain: str


class RecipeFile(Recipe):
    """A recipe as it is written: keys that are missing come from the recipe that it extends, or are defaults."""

    extends: str = Field(default="", description="the recipe that this one changes: tables merge, arrays replace")
