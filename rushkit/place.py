"""This process's place among the ranks of a job: what torchrun or ``--nproc`` put into the environment.

It is read here alone, and only when a verb that computes takes its place: a RANK that another job left in the shell
neither silences nor stops anything else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from rushkit.errors import UsageError

# Where --nproc and its ranks meet: a folder that nobody else can read.
JOB_FOLDER = "RUSHKIT_JOB_FOLDER"
WAIT = "RUSHKIT_WAIT"
_WAIT_SECONDS = 600
_MOST = 10**6
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Place:
    """Which of how many processes this one is, and where they meet.

    Attributes:
        rank: This process, from 0 on; rank 0 speaks and writes.
        world: How many there are.
        local_rank: This process among those of its machine.
        local_world: How many of them are on this machine; 0 where the environment does not say.
        address: Where rank 0, or torchrun's agent, is met; ``""`` under ``--nproc``.
        port: The port there; 0 under ``--nproc``.
        folder: The folder of ``--nproc``'s job; ``""`` under anything else.
        wait: Seconds that a rank waits for the others to come.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 0
    address: str = ""
    port: int = 0
    folder: str = ""
    wait: int = _WAIT_SECONDS

    @property
    def on_one_machine(self) -> bool:
        """Whether all ranks are known to be on this machine."""
        return bool(self.folder) or self.local_world == self.world or self.address in _LOOPBACK


_ALONE = Place()
_taken = _ALONE


def take_place() -> Place:
    """Read this process's place from the environment, and keep it.

    Raises:
        UsageError: the variables do not make sense together.
    """
    global _taken
    _taken = read_place(os.environ)
    return _taken


def leave_place() -> None:
    """Be a single process again."""
    global _taken
    _taken = _ALONE


def current_place() -> Place:
    """The place that was taken; that of a single process before."""
    return _taken


def read_place(environment: Mapping[str, str]) -> Place:
    """What the variables of torchrun and ``--nproc`` say; a single process where WORLD_SIZE is not set, or is 1.

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
    folder = environment.get(JOB_FOLDER, "")
    if folder:
        return Place(rank, world, local_rank, local_world, folder=folder, wait=wait)
    address, port = environment.get("MASTER_ADDR", ""), _number(environment, "MASTER_PORT", 1, 65535)
    if not address.strip():
        raise _wrong("MASTER_ADDR", f"is {'empty' if 'MASTER_ADDR' in environment else 'not set'}")
    return Place(rank, world, local_rank, local_world, address.strip(), port, wait=wait)


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
