"""The store that torchrun's agent holds is one for all attempts of a job: each attempt sees its own keys alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest
from torch.distributed import Store, TCPStore

from rushkit.distributed.rendezvous import _open_store, _Patience
from rushkit.place import read_place


@pytest.fixture
def attempts(monkeypatch) -> Iterator[list[Store]]:
    """What rank 0 opens in three attempts that one store serves."""
    agent = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=30), wait_for_workers=False)
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(agent.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    places = [read_place(environment | {"TORCHELASTIC_RESTART_COUNT": str(number)}) for number in range(3)]
    stores = [_open_store(place, _Patience(place)) for place in places]
    yield stores
    del agent


def test_an_attempt_sees_nothing_of_the_last_one(attempts):
    """Else a rank could take the address of one that is gone for that of its peer, and wait for it."""
    for last, this in pairwise(attempts):
        last.set("address of rank 1", "gone")
        assert last.check(["address of rank 1"])
        assert not this.check(["address of rank 1"])
        assert this.add("arrived", 1) == 1
