"""A job: one stage of a study, identified by the hash of what it computes.

Two studies that ask for the same computation have the same job, and so share its run. A changed key changes the
identities of the stages that read it, and of those that build on them; nothing else is done again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

from pydantic import Field, JsonValue

from rushkit.named_code import ALSO, IDENTITY, SURROGATE
from rushkit.results.base import Record

SCHEMA = 1
Stage = Literal["cluster", "pretrain", "finetune", "evaluate", "attack", "certify", "probe", "audit"]
STAGES: tuple[Stage, ...] = get_args(Stage)
# What a parent is to a job: the checkpoint that it starts from or measures, the clusters that it learns from, the
# evaluation whose errors under corruptions its own are a share of, or the code that its attacks name.
Role = Literal["model", "labels", "baseline", "attack"]

# The sections of the resolved recipe that change what a stage computes. Of ``[system]`` that is the seed alone: device,
# precision, ranks and folders do not make another job.
_READS: Mapping[Stage, tuple[str, ...]] = {
    "cluster": ("data", "backbone"),
    "pretrain": ("data", "backbone", "projector", "noise", "pretrain"),
    "finetune": ("data", "backbone", "projector", "noise", "finetune"),
    "evaluate": ("data", "noise", "evaluate"),
    "attack": ("data", "noise", "attack", "published"),
    "certify": ("data", "noise", "certify"),
    "probe": ("data",),
    "audit": ("data", "noise", "finetune", "attack"),
}
# Keys of a training that change no weights: when and how many checkpoints are written.
_NO_MATTER = ("save_every", "keep")
# Section -> keys that it did not always have, and the value that leaves everything as it was: results that are kept of
# a study stay those of its jobs.
_ATTACK_LATER: Mapping[str, JsonValue] = {
    "skip": 1,
    "target": "",
    "eight_bit": False,
    "smallest": False,
    "surrogate": "",
    "also": [],
}
_LATER: Mapping[str, Mapping[str, JsonValue]] = {
    "evaluate": {
        "skip": 1,
        "corruptions": [],
        "strengths": [1, 2, 3, 4, 5],
        "shift": False,
        "rotation": 30.0,
        "translation": "auto",
        "grid": [31, 5, 5],
    },
    "attack": _ATTACK_LATER,
    "published": _ATTACK_LATER,
}


class Job(Record):
    """What one job computes.

    Attributes:
        stage: The command whose stage it is.
        recipe: The resolved recipe.
        options: The stage's options outside the recipe, such as the protocols of an attack.
        parents: Role -> the id of the parent job, or ``sha256:...`` of a checkpoint that no job of the study makes.
    """

    stage: Stage
    recipe: dict[str, JsonValue]
    options: dict[str, JsonValue] = Field(default_factory=dict)
    parents: dict[Role, str] = Field(default_factory=dict)

    @property
    def id(self) -> str:
        """The identity, 64 hexadecimal digits."""
        return hashlib.sha256(canonical(self.computed()).encode()).hexdigest()

    @property
    def code(self) -> list[tuple[str, str]]:
        """The flag that names it, and code: of the classifier that it measures, of fronts, and of what attacks name."""
        model = self.recipe.get("model")
        attacks = code_of_attacks(self.recipe.get("attack")) if self.stage == "attack" else []
        if not isinstance(model, dict):
            return attacks
        fronts = model.get("fronts")
        named = [("--front", str(front)) for front in fronts] if isinstance(fronts, list) else []
        return [("--model", str(model.get("code", ""))), *named, *attacks]

    def computed(self) -> dict[str, JsonValue]:
        """Return what the identity is the hash of."""
        system = self.recipe.get("system")
        seed = system.get("seed") if isinstance(system, dict) else None
        return {
            "schema": SCHEMA,
            "stage": self.stage,
            "recipe": {key: _that_matters(key, self.recipe[key]) for key in self._reads() if key in self.recipe},
            "seed": seed,
            "options": self.options,
            "parents": {str(role): parent for role, parent in self.parents.items()},
        }

    def _reads(self) -> Iterator[str]:
        """Yield the sections of the recipe that change what it computes."""
        # The attacks that a method was published with run under a protocol of their own, and no others do there.
        protocols = self.options.get("protocols")
        is_published = isinstance(protocols, list) and "published" in protocols
        unread = "attack" if is_published else "published"
        yield from (section for section in _READS[self.stage] if self.stage != "attack" or section != unread)


def code_of_attacks(attacks: JsonValue) -> list[tuple[str, str]]:
    """Return the flag and the code of every surrogate and attack of one's own that tables of attacks name."""
    named: list[tuple[str, str]] = []
    for table in attacks if isinstance(attacks, list) else []:
        if isinstance(table, dict):
            surrogate, also = table.get("surrogate"), table.get("also")
            named += [(SURROGATE, str(surrogate))] if surrogate and surrogate != IDENTITY else []
            named += [(ALSO, str(said)) for said in also] if isinstance(also, list) else []
    return named


def _that_matters(section: str, value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_that_matters(section, item) for item in value]
    if not isinstance(value, dict):
        return value
    unread = _NO_MATTER if section in ("pretrain", "finetune") else ()
    later = _LATER.get(section, {})
    return {key: item for key, item in value.items() if key not in unread and (key not in later or item != later[key])}


def canonical(table: JsonValue) -> str:
    """Return the only JSON text of a table: keys sorted, no spaces, floats as ``repr`` writes them."""
    return json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
