"""The rendezvous of a job's ranks: a store that no other machine can reach, unless ranks run there."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from torch.distributed import FileStore, PrefixStore, Store, TCPStore, rendezvous  # type: ignore[attr-defined]

from rushkit.errors import RushkitError, UsageError
from rushkit.place import WAIT, Place

_POLL_SECONDS = 0.05
# When the missing rank is first named, and how often after that.
_FIRST_WORD_SECONDS, _NEXT_WORD_SECONDS = 3.0, 30.0
_LOOPBACK = "127.0.0.1"
_STORE_FILE = "meeting"
_ARRIVED = "rushkit/arrived"


def meet(place: Place) -> Store:
    """Open the store of the job and wait until every rank has done so.

    All waiting happens in Python, where a signal ends it; inside torch it would be handled only when the wait is over.

    Raises:
        UsageError: rank 0 cannot listen at the address.
        RushkitError: a rank does not come within ``place.wait`` seconds.
    """
    patience = _Patience(place)
    store = _open_store(place, patience)
    store.set(f"{_ARRIVED}/{place.rank}", "")
    store.add(_ARRIVED, 1)
    while store.add(_ARRIVED, 0) < place.world:
        patience.wait(lambda: _missing(store, place))
    return store


def stay_on_this_machine() -> None:
    """Let gloo and NCCL, which listen for every connection between ranks, use the loopback interface alone."""
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if names:
            os.environ[variable] = names[0]


def _open_store(place: Place, patience: _Patience) -> Store:
    if place.folder:
        # Each attempt needs a file of its own: what the last one wrote would be taken for this one's.
        return FileStore(str(Path(place.folder) / f"{_STORE_FILE}.{place.attempt}"), place.world)
    wait = timedelta(seconds=place.wait)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # The agent of torchrun holds the store. It may be one for all attempts, with what ranks of the last one wrote.
        _wait_for_listener(place.address, place.port, patience)
        store = next(rendezvous("env://", timeout=wait))[0]
        return PrefixStore(f"rushkit/attempt-{place.attempt}", store)
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
    """Open a listening socket for the store, which closes it. Left to itself, torch listens on every interface."""
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
    """Return the first rank that has not come; None if it is for another rank to say."""
    come = [store.check([f"{_ARRIVED}/{rank}"]) for rank in range(place.world)]
    return come.index(False) if False in come and come.index(True) == place.rank else None


class _Patience:
    """Tracks the waiting time and names the missing rank, except under ``--nproc``, whose agent sees ranks end."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._start = time.monotonic()
        self._next_word = min(_FIRST_WORD_SECONDS, place.wait / 2)

    def wait(self, missing: Callable[[], int | None]) -> None:
        """Wait a moment. ``missing`` returns the rank that is waited for, or None where another rank names it.

        Raises:
            RushkitError: the time is up.
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
