"""The options of a run outside its recipe, which are written to run.json at the start and read back by ``--resume``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from rushkit.files import JSON
from rushkit.results.attacks import ProtocolName
from rushkit.run.folder import Run


class Asked(BaseModel):
    """The options of one verb that are not keys of the recipe; each is a key of run.json."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return the options that a run was started with."""
        told = {name: getattr(run.about, name) for name in cls.model_fields}
        return cls(**{name: value for name, value in told.items() if value not in (None, "", [])})

    def facts(self) -> dict[str, JSON]:
        """Return the keys of run.json and their values, without options that were not given."""
        return self.model_dump(exclude_none=True)


class AttackAsked(Asked):
    """The options of an attack.

    Attributes:
        protocols: The protocols to run.
        save: Whether the adversarial images are kept.
        transfer_to: Path of a checkpoint that is queried about the same images.
        export: Path of the folder that the images are written to as PNG files.
        artifact: Path of the file that the images are packed into, for others to verify.
        with_weights: Whether that file holds the weights.
    """

    protocols: list[ProtocolName] = ["paper", "strict"]
    save: bool = False
    transfer_to: str | None = None
    export: str | None = None
    artifact: str | None = None
    with_weights: bool | None = None

    @property
    def folder(self) -> Path | None:
        """The folder that PNG files go to; None for none."""
        return None if self.export is None else Path(self.export)


class EvaluationAsked(Asked):
    """The options of an evaluation.

    Attributes:
        baseline: Path of the run whose errors make the mean corruption error; None: there is no such figure.
    """

    baseline: str | None = None


class AuditAsked(Asked):
    """The options of an audit; None means the default.

    Attributes:
        steps: Gradient steps.
        eot: Draws of noise for each gradient.
        queries: Queries of Square.
        limit: Number of images; 0 means all.
        samples: Draws of noise for each vote.
        claim: The share of all images that is said to stay right under attack; None if nothing is claimed.
    """

    steps: int | None = None
    eot: int | None = None
    queries: int | None = None
    limit: int | None = None
    samples: int | None = None
    claim: float | None = None


class SelfTestAsked(Asked):
    """The options of the audit's self-test.

    Attributes:
        self_test: Marks the run as one.
        cases: The cases by name; none means all.
    """

    self_test: Literal[True] = True
    cases: list[str] = []


class CertifyAsked(Asked):
    """The options of a certification.

    Attributes:
        counts: Path of the run whose counts are certified again; None makes new draws.
    """

    counts: str | None = None
