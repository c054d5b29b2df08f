"""The tables of a study's file."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from rushkit.errors import first_few
from rushkit.recipe.model_section import Model
from rushkit.recipe.sections import Norm, Number, Option, Section
from rushkit.study.stages import Changes, Label

# Jobs of one study: more are a slip in the file.
MOST_JOBS = 100_000
# Where the models of a row come from; a row has one of them, or published figures alone.
ORIGINS = ("recipe", "run", "checkpoint", "model")

Seed = Annotated[int, Field(ge=0)]
Seeds = Annotated[list[Seed], Field(min_length=1)]
# They are checked one by one, each by the model of its command.
StageTable = dict[str, Any]


def _once(seeds: list[int]) -> list[int]:
    twice = [seed for seed, count in Counter(seeds).items() if count > 1]
    if twice:
        raise ValueError(f"names the seed {first_few(list(map(str, twice)))} twice")
    return seeds


class RowAsked(Section):
    """One ``[[row]]``."""

    label: Label = Field(description="what the row is called in the table")
    recipe: str | None = Field(default=None, description="the recipe that its first stage runs")
    run: str | None = Field(default=None, description="a run to start from instead: its id, the end of it, or a folder")
    checkpoint: str | None = Field(default=None, description="a checkpoint to start from instead")
    model: Model | None = Field(
        default=None, description="somebody's classifier instead, as `[model]` of a recipe; `set` says its data.name"
    )
    set: Changes = Field(default={}, description="changes of the recipe in all stages of the row")
    seeds: Seeds | None = Field(default=None, description="instead of the study's")
    published: list[str] = Field(default=[], description="keys of published rows to print beside")
    stage: list[StageTable] | None = Field(default=None, description="instead of the study's stages")

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int] | None) -> list[int] | None:
        return None if seeds is None else _once(seeds)

    @property
    def only_published(self) -> bool:
        """Whether the row has published figures and nothing to run."""
        return bool(self.published) and all(getattr(self, name) is None for name in ORIGINS)


Radii = list[Annotated[Number, Field(gt=0)]]


class ReportAsked(Section):
    """``[report]``: what the table shows."""

    l1: Radii = Field(default=[], description="l1 radii at which certified accuracy is shown, pixel units")
    l2: Radii = Field(default=[], description="l2 radii")
    linf: Radii = Field(default=[], description="l-inf radii")

    @property
    def by_norm(self) -> dict[Norm, list[float]]:
        """The radii of each norm; none: a few of those that a certification has."""
        return {"l1": self.l1, "l2": self.l2, "linf": self.linf}


class StudyAsked(Section):
    """A whole file."""

    schema_version: Literal[1] = Field(alias="schema", description="version of this format")
    title: str = Field(min_length=1, max_length=200, description="stands over the table")
    seeds: Seeds = Field(default=[0], description="each row runs with each of them")
    set: Changes = Field(default={}, description="changes of the recipe in all rows")
    stage: list[StageTable] = Field(default=[], description="the stages of every row without stages of its own")
    row: list[RowAsked] = Field(min_length=1)
    report: ReportAsked = Field(default=ReportAsked(), description="what the table shows")
    engine: dict[str, dict[str, Option]] = Field(default={}, description="options of engines, by name")

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        return _once(seeds)
