"""run.json: the command and its options, the environment, and the status of the run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rushkit.results.attacks import FailedAttack, ProtocolName
from rushkit.results.base import Count, Number, Record, Share
from rushkit.results.imported import Origin
from rushkit.results.training import PseudoLabels

SCHEMA = 1
Status = Literal["running", "finished", "failed", "interrupted"]


class GitState(Record):
    """The state of the code that a run was started in.

    Attributes:
        commit: The checked-out commit.
        dirty: Whether the working tree differs from it.
    """

    commit: str
    dirty: bool


class Session(Record):
    """One process that worked on a run.

    Attributes:
        started: Start time in UTC, in ISO format.
        ended: End time; None while it runs, or if it was killed.
    """

    started: str
    ended: str | None


class RunError(Record):
    """The error that ended a session.

    Attributes:
        type: Type of the exception.
        message: Message of the exception.
    """

    type: str
    message: str


class RegisteredBy(Record):
    """The file that registered a component, which ``--import`` names again; both texts are empty for a notebook.

    Attributes:
        file: Its name, without a folder.
        sha256: Hash of its contents; empty if it could not be read.
    """

    file: str
    sha256: str


class GivenFacts(Record):
    """Somebody's classifier that a run measures: what ``--model`` named, or a run behind what ``--front`` named.

    Attributes:
        code: The file without its folder, or the module, and the name in it: ``"defence.py:Net"``; else the run.
        sha256: Hash of the file; "" if it has none.
        weights: Name of the file of weights, without its folder; "" for none.
        weights_sha256: Hash of that file.
        hash: Hash of code, arguments, weights, buffers and fronts.
        random: Whether two passes over an image differ.
        fronts: The code that changes the images, and its file's hash, in order.
        minds_batch: Whether its answer for an image depends on the images beside it.
    """

    code: str
    sha256: str = ""
    weights: str = ""
    weights_sha256: str = ""
    hash: str = ""
    random: bool = False
    fronts: list[RegisteredBy] = Field(default_factory=list)
    minds_batch: bool = False

    def in_words(self) -> str:
        """Return which code it is, and which weights: ``"defence.py:Net (1f2e3d4c5b6a), weights net.pt (aa..)"``."""
        files = [
            (self.code, self.sha256),
            *([(f"weights {self.weights}", self.weights_sha256)] if self.weights else []),
        ]
        words = ", ".join(f"{name} ({digest[:12]})" if digest else name for name, digest in files)
        return f"{words}; random by itself" if self.random else words


class StudyJob(Record):
    """The job of a study that made a run.

    Attributes:
        study: The study's name.
        row: The label of the row of its table.
        seed: The seed of the row.
        job: Identity of the job.
    """

    study: str
    row: str
    seed: Count
    job: str


class Facts(Record):
    """The facts that are recorded when a run is created; each of them may be missing.

    Attributes:
        argv: The command line.
        versions: Package -> version.
        platform: The operating system.
        git: The state of the code.
        device: The accelerator or the CPU.
        precision: Precision of the network's passes: of training in a training, else of the figures.
        precision_reason: Why it is that one.
        machine: Device, precision and threads, in words.
        seed: Seed of all draws.
        owners: Component -> the distribution that provides it.
        registered: Component that a decorator registered -> its file.
        parent: Path of the checkpoint or run that this one builds on.
        ranks: Number of processes.
        counts: Path of the run whose counts are certified again.
        protocols: The protocols of an attack.
        save: Whether an attack keeps its images.
        transfer_to: Path of the other model that an attack queries about its images.
        baseline: Path of the run whose errors under corruptions an evaluation's are a share of.
        export: Path of the folder that an attack writes its images to as PNG files.
        artifact: Path of the file that an attack packs its images into.
        with_weights: Whether that file holds the weights.
        steps, eot, queries, limit, samples: The options of an audit; None means the default.
        self_test: Whether an audit is the self-test.
        cases: The cases of a self-test by name; none means all.
        claim: The accuracy that an audit is to test; None if nothing is claimed.
        init: Path of the checkpoint or file whose weights a pre-training starts from.
        init_origin: Where those of somebody else's file are from.
        extends: Path of the checkpoint whose training goes on.
        hashes: ``parent``, ``transfer_to``, ``init`` and ``extends`` -> hash of the checkpoint.
        study: The job of a study that the run was started by; None for a run by itself.
        model: Somebody's classifier that is measured; None for a trained or imported one.
    """

    argv: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    platform: str = ""
    git: GitState | None = None
    device: str = ""
    precision: Literal["", "float32", "bf16"] = ""
    precision_reason: str = ""
    machine: str = ""
    seed: int | None = None
    owners: dict[str, str] = Field(default_factory=dict)
    registered: dict[str, RegisteredBy] = Field(default_factory=dict)
    parent: str | None = None
    ranks: Number | None = None
    counts: str = ""
    protocols: list[ProtocolName] = Field(default_factory=list)
    save: bool | None = None
    transfer_to: str | None = None
    baseline: str | None = None
    export: str | None = None
    artifact: str | None = None
    with_weights: bool | None = None
    steps: Count | None = None
    eot: Count | None = None
    queries: Count | None = None
    limit: Count | None = None
    samples: Count | None = None
    self_test: bool | None = None
    cases: list[str] = Field(default_factory=list)
    claim: Share | None = None
    init: str | None = None
    init_origin: Origin | None = None
    extends: str | None = None
    hashes: dict[str, str] = Field(default_factory=dict)
    study: StudyJob | None = None
    model: GivenFacts | None = None


class RunFile(Facts):
    """The contents of run.json.

    Attributes:
        schema_version: Version of the format; the key ``schema`` in the file.
        verb: The command.
        recipe: The recipe's name.
        status: The status that the last process wrote.
        started: Start time in UTC, in ISO format.
        ended: End time of the last session; None while it runs.
        sessions: The processes that worked on the run.
        failed: Name of an attack's files -> its error; a failed attack is not retried.
        stage: For an import: the stage whose result the run stands for.
        imported: For an import: the origin of the weights.
        labels: For a training: the clustering that its labels come from.
        error: The error that ended the last session, if it failed.
    """

    schema_version: Count = Field(default=SCHEMA, alias="schema")
    verb: str
    recipe: str
    status: Status
    started: str
    ended: str | None = None
    sessions: list[Session] = Field(default_factory=list)
    failed: dict[str, FailedAttack] = Field(default_factory=dict)
    stage: str = ""
    imported: Origin | None = None
    labels: PseudoLabels | None = None
    error: RunError | None = None
