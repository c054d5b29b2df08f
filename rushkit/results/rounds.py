"""The climbs of a cascade as records keep them, and how far its last doubling brought the accuracy down."""

from __future__ import annotations

from typing import Self

from pydantic import Field, JsonValue, model_validator

from rushkit.results.base import SLACK, Fall, Number, Record, Share, Size


class AttackRound(Record):
    """One climb of a cascade.

    Attributes:
        method: The step rule: ``"falling"``, ``"auto"`` (Auto-PGD) or ``"sparse"`` (APGD-L1).
        loss: The loss that is climbed.
        steps: Number of steps of each climb.
        draws: Draws of noise in each gradient.
        most_draws: The most draws in a gradient, for images whose gradient is noisy.
        start: Where the climb starts: ``"random"`` in the ball, or at the ``"best"`` version so far.
        doubling: Number of the round that the climb belongs to, counted from 1.
        momentum: Decay of the accumulated gradient; 0: no momentum.
        step_size: Length of the first step, as a multiple of eps.
        offered: The steps after which the iterate is offered to selection.
        options: Settings that this method has besides.
    """

    method: str
    loss: str
    steps: Number
    draws: Number
    most_draws: Number
    start: str
    doubling: Number
    momentum: Share
    step_size: Size
    offered: list[Number]
    options: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def words(self) -> str:
        """The name that it is credited under: ``"margin to rival 1 100x1"``."""
        rival = f" to rival {self.options['rival']}" if "rival" in self.options else ""
        return f"{self.loss}{rival} {self.steps}x{self.draws}"


class Change(Record):
    """How far an accuracy would still fall if the search had twice the passes, by how far the last doubling brought it.

    Attributes:
        estimate: The change of the accuracy in the last doubling, 0 or below.
        low: Lower end of its 95% interval.
        high: Upper end of the interval.
    """

    estimate: Fall
    low: Fall
    high: Fall

    @model_validator(mode="after")
    def _lies_within(self) -> Self:
        if not self.low - SLACK <= self.estimate <= self.high + SLACK:
            raise ValueError("the change lies outside its interval")
        return self
