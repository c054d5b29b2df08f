"""Where the ranks of a job meet: a store that all of them have come to, within a time, and open to no other machine
where all are on this one."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from torch.distributed import FileStore, Store, TCPStore, rendezvous  # type: ignore[attr-defined]

from rushkit.errors import RushkitError, UsageError
from rushkit.place import WAIT, Place

_POLL_SECONDS = 0.05
# Who is missing is said after so long, and again and again.
_FIRST_WORD_SECONDS, _NEXT_WORD_SECONDS = 3.0, 30.0
_LOOPBACK = "127.0.0.1"
_STORE_FILE = "meeting"
_ARRIVED = "rushkit/arrived"


def meet(place: Place) -> Store:
    """Come to the others' store, and wait until all have come.

    Every wait is in Python, where a signal ends it: inside torch it would be heard when the wait is over.

    Raises:
        UsageError: the address is no place to listen at for rank 0.
        RushkitError: a rank has not come within ``place.wait`` seconds.
    """
    patience = _Patience(place)
    store = _open_store(place, patience)
    store.set(f"{_ARRIVED}/{place.rank}", "")
    store.add(_ARRIVED, 1)
    while store.add(_ARRIVED, 0) < place.world:
        patience.wait(lambda: _missing(store, place))
    return store


def stay_on_this_machine() -> None:
    """Have gloo and NCCL, which listen for each of their connections, do so on the loopback interface alone."""
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if names:
            os.environ[variable] = names[0]


def _open_store(place: Place, patience: _Patience) -> Store:
    if place.folder:
        return FileStore(str(Path(place.folder) / _STORE_FILE), place.world)
    wait = timedelta(seconds=place.wait)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # torchrun's agent has it.
        _wait_for_listener(place.address, place.port, patience)
        store, _, _ = next(rendezvous("env://", timeout=wait))
        return store
    host = _LOOPBACK if place.on_one_machine else place.address
    if place.rank:
        _wait_for_listener(host, place.port, patience)
        return TCPStore(host, place.port, None, False, wait)
    try:
        handle = _listening_socket(host, place.port) if place.on_one_machine else None
        return TCPStore(host, place.port, None, True, wait, wait_for_workers=False, master_listen_fd=handle)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"rank 0 cannot listen at {host}:{place.port}: {str(error).splitlines()[0]}",
            "MASTER_PORT must be free, and MASTER_ADDR this machine; without other ranks: unset WORLD_SIZE RANK",
        ) from error


def _listening_socket(host: str, port: int) -> int:
    """A handle for the store, which closes it: torch itself listens on every interface."""
    with socket.create_server((host, port), backlog=socket.SOMAXCONN) as listener:
        return listener.detach()


def _wait_for_listener(host: str, port: int, patience: _Patience) -> None:
    while True:
        try:
            socket.create_connection((host, port), timeout=_FIRST_WORD_SECONDS).close()
        except OSError:
            patience.wait(lambda: 0)
        else:
            return


def _missing(store: Store, place: Place) -> int | None:
    """The first rank that has not come; None where another rank that has come says so."""
    come = [store.check([f"{_ARRIVED}/{rank}"]) for rank in range(place.world)]
    return come.index(False) if False in come and come.index(True) == place.rank else None


class _Patience:
    """How long to wait, and what to say meanwhile: the launcher knows of its ranks without a word."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._start = time.monotonic()
        self._next_word = min(_FIRST_WORD_SECONDS, place.wait / 2)

    def wait(self, missing: Callable[[], int | None]) -> None:
        """Wait a moment. ``missing`` tells which rank is waited for, or None where that is another rank's to say.

        Raises:
            RushkitError: it has been long enough.
        """
        waited, place = time.monotonic() - self._start, self._place
        if waited >= place.wait:
            rank, where = missing() or 0, f" to {place.address}:{place.port}" if place.address else ""
            raise RushkitError(
                f"rank {rank} of {place.world} has not come{where} within {place.wait} seconds",
                f"start all ranks ({WAIT} is how many seconds they wait for one another), or a single process: "
                "unset WORLD_SIZE RANK",
            )
        if waited >= self._next_word and not place.folder:
            self._next_word = waited + _NEXT_WORD_SECONDS
            if (absent := missing()) is not None:
                sys.stderr.write(f"waiting for rank {absent} of {place.world} at {place.address}:{place.port}\n")
                sys.stderr.flush()
        time.sleep(_POLL_SECONDS)
