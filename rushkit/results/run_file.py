"""run.json: what was asked, what it was done with, and how far it came."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rushkit.results.attacks import FailedAttack
from rushkit.results.base import Count, Number, Record
from rushkit.results.imported import Origin

SCHEMA = 1
Status = Literal["running", "finished", "failed", "interrupted"]


class GitState(Record):
    """The state of the code that a run was started in.

    Attributes:
        commit: Of the repository.
        dirty: Whether files differ from it.
    """

    commit: str
    dirty: bool


class Session(Record):
    """One process that worked on a run.

    Attributes:
        started: When, in ISO form and UTC.
        ended: When; None while it works, or where it was killed.
    """

    started: str
    ended: str | None


class RunError(Record):
    """What ended a session.

    Attributes:
        type: Of the exception.
        message: What it said.
    """

    type: str
    message: str


class Facts(Record):
    """What a run is told about itself when it is made; all of it may be missing.

    Attributes:
        argv: The command line.
        versions: Package -> version.
        platform: The operating system.
        git: The state of the code.
        device: The accelerator or the CPU.
        precision: Precision of the forward passes.
        machine: Device, precision and threads, in words.
        seed: Seed of all draws.
        owners: Component -> who brings it.
        parent: Path of the checkpoint or run that this one builds on.
        ranks: How many processes worked.
        counts: Path of the run whose counts are certified again.
        protocols: Of an attack.
        save: Whether an attack keeps its images.
        transfer_to: Path of the other model that is asked about them.
        steps, eot, queries, limit, samples: What an audit was asked for; None: the default.
        hashes: Which checkpoint -> its hash: of ``parent`` and ``transfer_to``.
    """

    argv: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    platform: str = ""
    git: GitState | None = None
    device: str = ""
    precision: str = ""
    machine: str = ""
    seed: int | None = None
    owners: dict[str, str] = Field(default_factory=dict)
    parent: str | None = None
    ranks: Number | None = None
    counts: str = ""
    protocols: list[Literal["paper", "strict"]] = Field(default_factory=list)
    save: bool | None = None
    transfer_to: str | None = None
    steps: Count | None = None
    eot: Count | None = None
    queries: Count | None = None
    limit: Count | None = None
    samples: Count | None = None
    hashes: dict[str, str] = Field(default_factory=dict)


class RunFile(Facts):
    """What run.json holds.

    Attributes:
        schema_version: Of the format; ``schema`` in the file.
        verb: The command.
        recipe: The recipe's name.
        status: How it stands, by what the last process wrote.
        started: When, in ISO form and UTC.
        ended: When the last session ended; None while it works.
        sessions: The processes that worked on it.
        block: Images of a block of an attack.
        failed: Name of an attack's files -> why it failed; it is not tried again.
        stage: Of an import: the stage whose work the run stands for.
        imported: Of an import: where the weights are from.
        error: What ended the last session, if it failed.
    """

    schema_version: Count = Field(default=SCHEMA, alias="schema")
    verb: str
    recipe: str
    status: Status
    started: str
    ended: str | None = None
    sessions: list[Session] = Field(default_factory=list)
    block: Number | None = None
    failed: dict[str, FailedAttack] = Field(default_factory=dict)
    stage: str = ""
    imported: Origin | None = None
    error: RunError | None = None
