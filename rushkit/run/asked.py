"""What a run was asked for beside its recipe: written to run.json when it starts, and read again by ``--resume``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from rushkit.files import JSON
from rushkit.run.folder import Run


class Asked(BaseModel):
    """Settings of one verb that are no keys of the recipe; each is a key of run.json."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return what a run was asked for when it started."""
        told = {name: getattr(run.about, name) for name in cls.model_fields}
        return cls(**{name: value for name, value in told.items() if value not in (None, "", [])})

    def facts(self) -> dict[str, JSON]:
        """Return the keys of run.json and their values; what was not asked for has none."""
        return self.model_dump(exclude_none=True)


class AttackAsked(Asked):
    """What an attack is asked for.

    Attributes:
        protocols: Which of the two run.
        save: Whether the adversarial images are kept.
        transfer_to: Path of a checkpoint that is queried about the same images.
    """

    protocols: list[Literal["paper", "strict"]] = ["paper", "strict"]
    save: bool = False
    transfer_to: str | None = None


class AuditAsked(Asked):
    """What an audit is asked for; None stands for the usual number.

    Attributes:
        steps: Gradient steps.
        eot: Draws of noise for each gradient.
        queries: Queries of Square.
        limit: Images to look at; 0: all.
        samples: Draws of noise for each vote.
    """

    steps: int | None = None
    eot: int | None = None
    queries: int | None = None
    limit: int | None = None
    samples: int | None = None


class CertifyAsked(Asked):
    """What a certification is asked for.

    Attributes:
        counts: Path of the run whose counts are certified again; None: draws are made.
    """

    counts: str | None = None
