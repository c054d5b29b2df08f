"""Results of a verification."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rushkit.recipe.schema import Norm
from rushkit.results.base import SLACK, Number, Record, Share, Size, StageResults
from rushkit.results.notes import Check

# ``incomplete``: no check fails, and one without which nothing was reproduced could not be made.
Verdict = Literal["consistent", "inconsistent", "incomplete"]


class Estimate(Record):
    """The share of votes on all images that are right.

    Attributes:
        accuracy: The share.
        low: Lower end of its 95% Wilson interval over images.
        high: Upper end of the interval.
        votes: How many votes there were on each image.
    """

    accuracy: Share
    low: Share
    high: Share
    votes: Number

    @model_validator(mode="after")
    def _lies_within(self) -> Self:
        if not self.low - SLACK <= self.accuracy <= self.high + SLACK:
            raise ValueError("the share lies outside its interval")
        return self


class VerifiedAttack(Record):
    """The saved images of one attack, checked.

    Attributes:
        attack: The attack, its protocol and m, in words.
        split: Data set and split.
        selection: Which images of it they are, in words.
        norm: Norm of the ball.
        eps: Radius of the ball, pixel units.
        images: Number of images.
        model: Hash of the weights, as the artifact says.
        claimed: What is claimed to be right under the attack.
        claimed_clean: What is claimed to be right without it.
        here: What is right under the attack, scored here; None if it was not scored.
        here_clean: What is right without it; None likewise.
        digest: The last link of the chain of hashes.
        verdict: What follows from the checks.
        checks: Every check.
        sentence: The verdict in one sentence.
        claim: What may be said of the attack, in the words of docs/claims.md; empty unless it is consistent.
    """

    attack: str
    split: str
    selection: str
    norm: Norm
    eps: Size
    images: Number
    model: str
    claimed: Estimate
    claimed_clean: Estimate
    here: Estimate | None = None
    here_clean: Estimate | None = None
    digest: str
    verdict: Verdict
    checks: list[Check]
    sentence: str
    claim: str = ""


class VerifiedCertificates(Record):
    """The certificates of one run, checked.

    Attributes:
        data: Data set and split.
        selection: How the images were chosen, in words.
        norm: Norm of the ball.
        images: Number of images.
        model: Hash of the checkpoint, as the counts say.
        verdict: What follows from the checks.
        checks: Every check.
        sentence: The verdict in one sentence.
        claim: What may be said of the certificates, in the words of docs/claims.md; empty unless they are consistent.
    """

    data: str
    selection: str
    norm: Norm
    images: Number
    model: str
    verdict: Verdict
    checks: list[Check]
    sentence: str
    claim: str = ""


class Verification(StageResults):
    """Results of ``rushkit verify``; docs/claims.md explains the checks.

    Attributes:
        target: The run or the artifact that was verified.
        recipe: The recipe's name.
        seed: Seed of the verifier's own draws.
        verdict: The worst verdict of the parts.
        attacks: What was found for each attack with saved images.
        certificates: What was found of a certification.
    """

    stage: Literal["verify"] = "verify"
    target: str
    recipe: str
    seed: int
    verdict: Verdict
    attacks: list[VerifiedAttack] = Field(default_factory=list)
    certificates: list[VerifiedCertificates] = Field(default_factory=list)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the worst of some verdicts, such as that of a verification of several parts."""
    order: tuple[Verdict, ...] = ("inconsistent", "incomplete", "consistent")
    return next(verdict for verdict in order if verdict in verdicts)
