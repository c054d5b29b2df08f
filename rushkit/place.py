"""The place of this process among the ranks of a job, which torchrun or ``--nproc`` passes in the environment.

Only this module reads these variables, and only for verbs that compute. So a RANK variable that another job left in the
shell does not affect any other command. (``distributed.notes`` reads the file for errors, which a rank needs earlier.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from rushkit.errors import UsageError

# Names the folder where the ranks of --nproc meet; nobody else can read it.
JOB_FOLDER = "RUSHKIT_JOB_FOLDER"
WAIT = "RUSHKIT_WAIT"
# Set by the agent of torch: how often it has started the ranks again, and the file for this rank's error.
ATTEMPT = "TORCHELASTIC_RESTART_COUNT"
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
_WAIT_SECONDS = 600
_MOST = 10**6
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Place:
    """Which rank this process is, out of how many, and where they meet.

    Attributes:
        rank: Number of this process, from 0; rank 0 prints and writes.
        world: Number of processes.
        local_rank: Number of this process among those of its machine.
        local_world: Number of processes on this machine; 0 if the environment does not say.
        address: Where rank 0, or the agent of torchrun, listens; ``""`` under ``--nproc``.
        port: The port there; 0 under ``--nproc``.
        folder: The folder where the ranks of ``--nproc`` meet; ``""`` otherwise.
        attempt: How often the ranks of this job were started before.
        wait: Seconds that a rank waits for the others to come.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 0
    address: str = ""
    port: int = 0
    folder: str = ""
    attempt: int = 0
    wait: int = _WAIT_SECONDS

    @property
    def on_one_machine(self) -> bool:
        """Whether all ranks are known to be on this machine."""
        return bool(self.folder) or self.local_world == self.world or self.address in _LOOPBACK


_ALONE = Place()
_taken = _ALONE


def take_place() -> Place:
    """Read the place of this process from the environment, keep it, and return it.

    Raises:
        UsageError: the variables do not make sense together.
    """
    global _taken
    _taken = read_place(os.environ)
    return _taken


def leave_place() -> None:
    """Become a single process again."""
    global _taken
    _taken = _ALONE


def current_place() -> Place:
    """Return the place that was taken; before that, the place of a single process."""
    return _taken


def read_place(environment: Mapping[str, str]) -> Place:
    """Return the place that the variables describe; a single process where WORLD_SIZE is not set, or is 1.

    Raises:
        UsageError: one is empty or no number, is missing, or contradicts another one.
    """
    world = _number(environment, "WORLD_SIZE", 1, default=1)
    if world == 1:
        return _ALONE
    rank = _number(environment, "RANK", 0)
    if rank >= world:
        raise _wrong("RANK", f"is {rank}, and WORLD_SIZE {world}: ranks go from 0 to {world - 1}")
    local_rank = _number(environment, "LOCAL_RANK", 0, default=0)
    local_world = _number(environment, "LOCAL_WORLD_SIZE", 0, default=0)
    if local_world and local_rank >= local_world:
        raise _wrong("LOCAL_RANK", f"is {local_rank}, and LOCAL_WORLD_SIZE {local_world}")
    wait = _number(environment, WAIT, 1, default=_WAIT_SECONDS)
    attempt = _number(environment, ATTEMPT, 0, default=0)
    folder = environment.get(JOB_FOLDER, "")
    if folder:
        return Place(rank, world, local_rank, local_world, folder=folder, attempt=attempt, wait=wait)
    address, port = environment.get("MASTER_ADDR", ""), _number(environment, "MASTER_PORT", 1, 65535)
    if not address.strip():
        raise _wrong("MASTER_ADDR", f"is {'empty' if 'MASTER_ADDR' in environment else 'not set'}")
    return Place(rank, world, local_rank, local_world, address.strip(), port, attempt=attempt, wait=wait)


def _number(
    environment: Mapping[str, str], name: str, least: int, most: int = _MOST, default: int | None = None
) -> int:
    text = environment.get(name)
    if text is None:
        if default is None:
            raise _wrong(name, "is not set")
        return default
    digits = text.strip()
    # Not by int() alone: it takes "1_0", and digits of any script and length.
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18 and least <= int(digits) <= most):
        shown = repr(digits if len(digits) <= 40 else f"{digits[:37]}...") if digits else "empty"
        raise _wrong(name, f"is {shown}: it must be a whole number from {least} to {most}")
    return int(digits)


def _wrong(name: str, what: str) -> UsageError:
    if name == WAIT:
        return UsageError(f"the environment variable {name} {what}", f"unset {name}: the default is {_WAIT_SECONDS}")
    return UsageError(
        f"the environment variable {name} {what}",
        "torchrun sets it for each rank; what another job left in the shell goes with: unset WORLD_SIZE RANK",
    )
