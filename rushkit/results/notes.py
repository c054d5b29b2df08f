"""What a reader of figures must know, and what an audit checks: each with a code, so that no code reads prose."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rushkit.results.base import Record

# Of an attack: why its figures are not what a reader may expect.
NoteCode = Literal[
    # AutoAttack runs in its version for random models, which is the default on a smoothed one.
    "rand-version",
    # The attack saw one panel of draws in place of the random model.
    "one-panel",
    # Too few classes for the DLR loss: strict leaves it out.
    "no-dlr",
    # All steps together do not reach the surface of the ball.
    "short-steps",
    # The images were resized: a radius means the resized pixels.
    "resized",
    # A loss that needs more classes than there are was replaced.
    "loss-replaced",
    # A part of the attack does not fit such images and was left out.
    "part-left-out",
    # What the attack returned lay outside its ball and was projected back.
    "projected",
    # Whatever else an attack, perhaps a plugin's, says of itself.
    "other",
]
Status = Literal["pass", "warn", "fail", "skipped"]


class Note(Record):
    """Something that a reader of figures must know.

    Attributes:
        code: What it is about, for code that has to tell notes apart.
        text: The sentence for people.
        figures: Numbers in the sentence, by name.
    """

    code: NoteCode
    text: str
    figures: dict[str, float] = Field(default_factory=dict)


class Check(Record):
    """What one check of an audit says.

    Attributes:
        code: Such as ``"RK101"``; never given to another check.
        name: Such as ``"eot-not-converged"``: what is wrong where the check fails.
        status: Whether it is.
        says: One sentence that states the finding.
        figures: The numbers behind the verdict, by name.
    """

    code: str
    name: str
    status: Status
    says: str
    figures: dict[str, float]
