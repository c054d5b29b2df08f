"""A function as several ranks in the threads of one process: the collectives of torch.distributed, at no cost.

The ranks take turns. One runs up to its next collective, then the next one does, so that what happens is the same every
time; ranks that do not call the same collectives in the same order fail at once, where processes would hang. As a
process would, each has global generators of its own. On a CPU torch runs a backward pass in the thread that asks for
it, so collectives work there as well. ``gloo_ranks`` does the same with real processes.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed
from torch.distributed import ReduceOp

_REDUCTIONS: dict[Any, Callable[[Tensor], Tensor]] = {
    ReduceOp.SUM: lambda parts: parts.sum(0),
    ReduceOp.MAX: lambda parts: parts.amax(0),
    ReduceOp.MIN: lambda parts: parts.amin(0),
}


def run_ranks(function: Callable[..., Any], world: int, *arguments: Any) -> list[Any]:
    """Return what ``function(*arguments)`` returns on each of ``world`` ranks; what one raises is raised here.

    The global generators are left as rank 0 leaves them.
    """
    turns = _Turns(world)
    threads = [threading.Thread(target=turns.live, args=(rank, function, arguments)) for rank in range(world)]
    with turns.in_place_of_torch():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if turns.failure is not None:
        raise turns.failure
    _set_global_state(turns.states[0])
    return turns.results


class _Stopped(BaseException):
    """Another rank failed."""


class _Turns:
    """Whose turn it is, and what each rank gave to each collective so far."""

    def __init__(self, world: int) -> None:
        self.world = world
        self.results: list[Any] = [None] * world
        self.states = [_global_state()] * world
        self.failure: BaseException | None = None
        self._calls: list[list[tuple[tuple[Any, ...], Tensor]]] = [[] for _ in range(world)]
        self._running = set(range(world))
        self._turn = 0
        self._passed_on = threading.Condition()
        self._me = threading.local()

    def live(self, rank: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Be a rank."""
        self._me.rank = rank
        try:
            self._wait()
            self.results[rank] = function(*arguments)
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 raised again by run_ranks
            self.failure = self.failure or error
        finally:
            self._running.discard(rank)
            self._pass_on()

    def exchange(self, tensor: Tensor, *call: Any) -> Tensor:
        """Return what all ranks give to this collective, (R, ...), in the order of ranks."""
        call = (*call, tensor.dtype, tuple(tensor.shape))
        mine = self._calls[self._me.rank]
        mine.append((call, tensor.detach().clone()))
        self._pass_on()
        self._wait()
        # Those before this rank may already have given something to the next collective.
        given = [calls[len(mine) - 1] if len(calls) >= len(mine) else (None, tensor) for calls in self._calls]
        if any(other != call for other, _ in given):
            raise AssertionError(f"the ranks differ in collective {len(mine)}: {[other for other, _ in given]}")
        return torch.stack([part for _, part in given])

    @contextmanager
    def in_place_of_torch(self) -> Iterator[None]:
        """Be ``torch.distributed`` for the ranks' threads, and for no other."""

        def rank_or_none() -> int | None:
            return getattr(self._me, "rank", None)

        def all_reduce(tensor: Tensor, op: Any = ReduceOp.SUM) -> None:
            with torch.no_grad():
                tensor.copy_(_REDUCTIONS[op](self.exchange(tensor, "all_reduce", op)))

        def all_gather(parts: list[Tensor], tensor: Tensor) -> None:
            with torch.no_grad():
                for part, given in zip(parts, self.exchange(tensor, "all_gather"), strict=True):
                    part.copy_(given)

        def broadcast(tensor: Tensor, src: int) -> None:
            with torch.no_grad():
                tensor.copy_(self.exchange(tensor, "broadcast", src)[src])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(distributed, "is_initialized", lambda: rank_or_none() is not None)
            patch.setattr(distributed, "get_rank", rank_or_none)
            patch.setattr(distributed, "get_world_size", lambda: self.world)
            for collective in (all_reduce, all_gather, broadcast):
                patch.setattr(distributed, collective.__name__, collective)
            yield

    def _pass_on(self) -> None:
        """Give the turn to the next rank that still runs."""
        rank = self._me.rank
        self.states[rank] = _global_state()
        with self._passed_on:
            following = [(rank + step) % self.world for step in range(1, self.world + 1)]
            self._turn = next((other for other in following if other in self._running), -1)
            self._passed_on.notify_all()

    def _wait(self) -> None:
        """Wait for this rank's turn. Raises _Stopped if another rank has failed."""
        with self._passed_on:
            self._passed_on.wait_for(lambda: self._turn == self._me.rank)
        _set_global_state(self.states[self._me.rank])
        if self.failure is not None:
            raise _Stopped


def _global_state() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _set_global_state(state: tuple[Any, ...]) -> None:
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])
    random.setstate(state[2])
