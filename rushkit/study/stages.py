"""The stages of a study's rows: the options that each takes, named as the flags of its command.

An option that stands for keys of the recipe becomes a change of the recipe; the others are the job's options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue, field_validator

from rushkit.errors import UsageError
from rushkit.recipe import toml
from rushkit.recipe.sections import Draws, GradientDraws, LearningRate, Limit, Norm, Number, Option, Section
from rushkit.recipe.toml import Given, Table
from rushkit.results.attacks import ProtocolName
from rushkit.results.clustering import check_clusters
from rushkit.study.job import Stage

# The stages that make a model.
MODELS: tuple[Stage, ...] = ("pretrain", "finetune")
# Those that measure a classifier, whoever made it.
MEASURING: tuple[Stage, ...] = ("evaluate", "attack", "certify", "audit")

_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def dotted(changes: Table) -> Table:
    """Return the changes of a ``set`` by dotted key: ``{ a.b = 1 }`` and ``{ "a.b" = 1 }`` say the same."""
    flat: Table = {}
    for key, value in changes.items():
        inner = dotted(value) if isinstance(value, dict) and value else {}
        flat |= {f"{key}.{path}": item for path, item in inner.items()} or {key: value}
    return flat


def _check_changes(changes: dict[str, Any]) -> dict[str, Any]:
    for key in dotted(changes):
        if not _KEY.fullmatch(key) or key.count(".") >= toml.MAX_DEPTH:
            raise ValueError(f"{key!r} is no key of a recipe")
        if key == "system.seed":
            raise ValueError("system.seed is what `seeds` says; leave it out")
        if key.rpartition(".")[0] in ("pretrain", "finetune") and key.endswith(".labels"):
            raise ValueError(f"{key} is what a stage's `labels` says: the stage that makes the clusters")
    return changes


def _check_line(label: str) -> str:
    if not label.isprintable():
        raise ValueError("must be one line of printable characters")
    return label


def _check_label(label: str) -> str:
    if "/" in label:
        raise ValueError("must not have a '/' in it: ROW/STAGE names the stage of another row")
    return label


Changes = Annotated[dict[str, Option], AfterValidator(_check_changes)]
Label = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_check_line)]
Count = Annotated[int, Field(ge=1)]


class StageAsked(Section):
    """One ``[[stage]]`` of a study, or one ``[[row.stage]]``: what all of them take."""

    # The stages whose checkpoint it can start from; the first of them is what it takes by itself.
    TAKES: ClassVar[tuple[Stage, ...]]
    # The section of the recipe that its options of the same name stand in.
    SECTION: ClassVar[str] = ""
    # Options that are no keys of the recipe.
    OWN: ClassVar[tuple[str, ...]] = ()

    do: Stage = Field(description="the command")
    label: Annotated[Label, AfterValidator(_check_label)] | None = Field(
        default=None, description="what the stage is called; else as its command"
    )
    source: str = Field(
        default="",
        alias="from",
        description="the stage that it starts from: of this row, or ROW/STAGE of another; else the last one before it "
        "that makes what it needs",
    )
    set: Changes = Field(default={}, description="changes of the recipe, by dotted key")

    @property
    def name(self) -> str:
        """What the stage is called in its row."""
        return self.label or self.do

    def changes(self) -> dict[str, Given]:
        """Return the changes of the recipe that its options stand for, by dotted key."""
        return {f"{self.SECTION}.{name}": value for name, value in self.given().items() if name not in self.OWN}

    def given(self) -> dict[str, Any]:
        """Return the options that were given, by name, without those that every stage takes."""
        shared = StageAsked.model_fields.keys() | {"labels", "to", "baseline"}
        fields = type(self).model_fields
        return {name: getattr(self, name) for name in fields if name not in shared and getattr(self, name) is not None}

    def options(self) -> dict[str, JsonValue]:
        """Return the options of the job: those outside the recipe."""
        return {name: value for name, value in self.given().items() if name in self.OWN}


class _Training(StageAsked):
    labels: str = Field(default="", description="the stage whose clusters are learnt")
    epochs: Count | None = None
    batch_size: Annotated[int, Field(ge=2)] | None = None
    lr: LearningRate | None = None
    split: str | None = None

    def changes(self) -> dict[str, Given]:
        """Return the changes of the recipe; the learning rate is the optimizer's."""
        changes = super().changes()
        rate = changes.pop(f"{self.SECTION}.lr", None)
        return changes | ({} if rate is None else {f"{self.SECTION}.optimizer.lr": rate})


class PretrainAsked(_Training):
    """``do = "pretrain"``; ``from`` names the teacher of an objective that has one."""

    TAKES: ClassVar[tuple[Stage, ...]] = MODELS
    SECTION: ClassVar[str] = "pretrain"
    do: Literal["pretrain"]


class FinetuneAsked(_Training):
    """``do = "finetune"``; without an encoder in its row it starts from random weights."""

    TAKES: ClassVar[tuple[Stage, ...]] = MODELS
    SECTION: ClassVar[str] = "finetune"
    do: Literal["finetune"]
    to: str = Field(default="", description="a recipe or a data set to transfer to")


class ClusterAsked(StageAsked):
    """``do = "cluster"``."""

    TAKES: ClassVar[tuple[Stage, ...]] = MODELS
    OWN: ClassVar[tuple[str, ...]] = ("clusters", "starts", "split")
    do: Literal["cluster"]
    clusters: list[int] = Field(min_length=1, description="numbers of clusters; each makes a column of labels")
    starts: Annotated[int, Field(ge=1, le=1000)] = Field(default=1, description="starts of k-means")
    split: str | None = None
    to: str = Field(default="", description="the recipe or data set whose images are clustered")

    @field_validator("clusters")
    @classmethod
    def _can_be_made(cls, clusters: list[int]) -> list[int]:
        try:
            check_clusters(clusters)
        except UsageError as error:
            raise ValueError(error.message) from None
        return clusters


class _Measurement(StageAsked):
    TAKES: ClassVar[tuple[Stage, ...]] = ("finetune",)
    limit: Limit | None = None
    split: str | None = None


class EvaluateAsked(_Measurement):
    """``do = "evaluate"``."""

    SECTION: ClassVar[str] = "evaluate"
    do: Literal["evaluate"]
    samples: Draws | None = None
    baseline: str = Field(
        default="",
        description="the stage of evaluate, of this row or ROW/STAGE of another, of whose errors under corruptions the "
        "mean corruption error is a share",
    )


class AttackAsked(_Measurement):
    """``do = "attack"``; its options change every attack of the recipe."""

    OWN: ClassVar[tuple[str, ...]] = ("protocols", "save")
    do: Literal["attack"]
    type: str | None = Field(default=None, description="an attack's name; else those of the recipe")
    norm: Norm | None = None
    eps: Annotated[Number, Field(ge=0)] | None = None
    protocols: list[ProtocolName] = Field(default=["paper", "strict"], min_length=1)
    effort: Literal[1, 2, 4] | None = None
    samples: GradientDraws | None = None
    eot: Count | None = None
    surrogate: str | None = Field(default=None, description="a stand-in whose gradients are followed: FILE.py:NAME")
    also: list[str] | None = Field(default=None, description="attacks of one's own that take part: FILE.py:NAME")
    save: bool = Field(default=False, description="keep the adversarial images")

    @field_validator("protocols")
    @classmethod
    def _go_together(cls, protocols: list[ProtocolName]) -> list[ProtocolName]:
        if len(set(protocols)) < len(protocols):
            raise ValueError("names a protocol twice")
        if "published" in protocols and len(protocols) > 1:
            raise ValueError("published runs attacks of its own: give it a stage of its own")
        return protocols

    def changes(self) -> dict[str, Given]:
        """Return nothing: the options change all attacks that are kept, which ``recipe.attack_flags`` does."""
        return {}

    def attack_keys(self) -> dict[str, Any]:
        """Return the keys that every attack gets."""
        return {name: value for name, value in self.given().items() if name not in (*self.OWN, "type")}


class CertifyAsked(_Measurement):
    """``do = "certify"``."""

    SECTION: ClassVar[str] = "certify"
    do: Literal["certify"]
    norm: Norm | None = None
    samples: Count | None = None
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None
    radii: list[Annotated[Number, Field(ge=0)]] | None = None
    skip: Count | None = None


class ProbeAsked(StageAsked):
    """``do = "probe"``."""

    TAKES: ClassVar[tuple[Stage, ...]] = MODELS
    OWN: ClassVar[tuple[str, ...]] = ("limit", "eps", "norm", "steps")
    do: Literal["probe"]
    limit: Limit = 256
    eps: Annotated[Number, Field(ge=0)] = 8 / 255
    norm: Norm = "linf"
    steps: Count = 20


class AuditAsked(_Measurement):
    """``do = "audit"``."""

    OWN: ClassVar[tuple[str, ...]] = ("limit", "samples", "steps", "eot", "queries", "claim")
    do: Literal["audit"]
    eps: Annotated[Number, Field(ge=0)] | None = None
    norm: Norm | None = None
    samples: Count | None = None
    steps: Count | None = None
    eot: Count | None = None
    queries: Count | None = None
    claim: Annotated[float, Field(ge=0, le=1)] | None = None

    def changes(self) -> dict[str, Given]:
        """Return nothing: ball and split change the attacks, which ``recipe.attack_flags`` does."""
        return {}

    def attack_keys(self) -> dict[str, Any]:
        """Return the keys of the ball and the images."""
        return {name: value for name, value in self.given().items() if name not in self.OWN}


ASKED: Mapping[Stage, type[StageAsked]] = {
    "cluster": ClusterAsked,
    "pretrain": PretrainAsked,
    "finetune": FinetuneAsked,
    "evaluate": EvaluateAsked,
    "attack": AttackAsked,
    "certify": CertifyAsked,
    "probe": ProbeAsked,
    "audit": AuditAsked,
}
