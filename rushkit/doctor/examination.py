"""The findings of the doctor as records. Importing this imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSetState:
    """Whether a data set can be used.

    Attributes:
        state: ``"ready"``, or what is wrong.
        fetch: Whether ``rushkit data fetch`` downloads it.
    """

    state: str
    fetch: bool


@dataclass(frozen=True)
class DataFolder:
    """The folder that data sets lie in.

    Attributes:
        folder: Its path.
        sets: Name of each data set -> its state.
    """

    folder: str
    sets: dict[str, DataSetState]


@dataclass(frozen=True)
class RunsFolder:
    """The folder that runs are made in.

    Attributes:
        folder: Its path.
        free: Bytes that are free there.
    """

    folder: str
    free: int


@dataclass(frozen=True)
class Examination:
    """The findings of the doctor.

    Attributes:
        device: The device that training would use.
        machine: Device, precision and threads, in words.
        precision: Precision of training.
        precision_reason: Why it is that one.
        figures_precision: Precision of evaluation, votes and certificates.
        figures_precision_reason: Why it is that one.
        compiles: Whether training is compiled.
        compile_obstacle: Why torch.compile does not work on a GPU; None if it works, and on a CPU.
        threads: Threads that torch uses.
        cores: Cores of the machine.
        accelerators: Names of the GPUs.
        gflops: Arithmetic that a convolution reaches, in GFLOP a second.
        paper_days: How long the paper's pre-training would take at that speed.
        versions: Package -> version.
        platform: The operating system.
        data: The data sets.
        runs: The folder of runs.
        plugins: ``owner/name`` of each component of a plugin -> ``"ok"``, or what is wrong.
    """

    device: str
    machine: str
    precision: str
    precision_reason: str
    figures_precision: str
    figures_precision_reason: str
    compiles: bool
    compile_obstacle: str | None
    threads: int
    cores: int
    accelerators: list[str]
    gflops: float
    paper_days: float
    versions: dict[str, str]
    platform: str
    data: DataFolder
    runs: RunsFolder
    plugins: dict[str, str]
