"""Several processes at one job: who this one is, what all of them agree on, and how work is shared out.

Under ``torchrun`` or ``--nproc`` every rank runs the same stage. What is drawn, trained, counted and written does not
depend on their number: a batch, or a list of blocks, is split over the ranks, and every draw is the one that a single
process would make. Nothing here sends pickles: what is not a tensor travels as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from rushkit.distributed.rendezvous import meet, stay_on_this_machine
from rushkit.errors import UsageError
from rushkit.models.batch_norm import synchronise_batch_norm
from rushkit.place import current_place, take_place

Item = TypeVar("Item")

# A rank waits this long for the others: one may be at a hard block for hours. A rank that dies is noticed at once.
_PATIENCE = timedelta(days=1)


def join() -> None:
    """Meet the other ranks that the environment tells of; does nothing in a single process, or the second time.

    On a machine with GPUs each rank takes the one of its local rank. Where all ranks are on this machine, nothing of
    theirs listens to another one.

    Raises:
        UsageError: the environment of ranks does not make sense, or rank 0 cannot listen where it says.
        RushkitError: a rank has not come in time.
    """
    if world() > 1:
        return
    here = take_place()
    if here.world == 1:
        return
    if here.on_one_machine:
        stay_on_this_machine()
    store = meet(here)
    if torch.cuda.is_available():
        torch.cuda.set_device(here.local_rank % torch.cuda.device_count())
    # Gloo beside NCCL: what ranks agree on is on the CPU, and must not make the device wait.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # All have come: who is lost between here and there is not waited for like one that computes.
    soon = timedelta(seconds=here.wait)
    distributed.init_process_group(backend, store=store, rank=here.rank, world_size=here.world, timeout=soon)
    _set_timeout(_PATIENCE)


def _set_timeout(timeout: timedelta) -> None:
    """How long every operation from now on waits for the other ranks; torch before 2.14 has it under another name."""
    public = getattr(distributed, "set_timeout", None)
    (public or distributed.distributed_c10d._set_pg_timeout)(timeout)


def check_device(device: torch.device) -> None:
    """Raise UsageError where several ranks would compute on one GPU."""
    if device.type != "cuda" or world() == 1:
        return
    if str(device) != "cuda" or current_place().local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"rank {rank()} has no GPU of its own: device {device}, {torch.cuda.device_count()} GPUs on this machine",
            "start at most one rank a GPU, with system.device = auto or cuda; or with cpu",
        )


def rank() -> int:
    """This process's number; 0 speaks and writes."""
    return distributed.get_rank() if distributed.is_initialized() else current_place().rank


def world() -> int:
    """How many processes have joined."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def broadcast(value: Any) -> Any:
    """Rank 0's value, a JSON document, on every rank; what the others pass is ignored."""
    return value if world() == 1 else gather(value if rank() == 0 else None)[0]


def gather(value: Any) -> list[Any]:
    """The JSON documents of all ranks, in rank order, on every rank."""
    if world() == 1:
        return [value]
    data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(world())]
    distributed.all_gather(lengths, torch.tensor([len(data)]))
    longest = int(max(lengths))
    parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(world())]
    distributed.all_gather(parts, torch.nn.functional.pad(data, (0, longest - len(data))))
    return [json.loads(part[: int(length)].numpy().tobytes()) for part, length in zip(parts, lengths, strict=True)]


def largest(number: int) -> int:
    """The largest of the ranks' numbers."""
    if world() == 1:
        return number
    numbers = torch.tensor([number])
    distributed.all_reduce(numbers, distributed.ReduceOp.MAX)
    return int(numbers)


def any_rank(flag: bool) -> bool:
    """Whether the flag is up on any rank: all ranks must ask, and all hear the same."""
    return bool(largest(int(flag)))


def total(values: Tensor) -> Tensor:
    """The sum of the ranks' tensors, in place."""
    if world() > 1:
        distributed.all_reduce(values)
    return values


def wait() -> None:
    """Go on when every rank has come this far."""
    any_rank(False)


@contextmanager
def first_on_node() -> Iterator[None]:
    """A block that the first rank of each machine goes through before the others: what it caches serves them.

    Its error, one of several, is then the job's.
    """
    if current_place().local_rank:
        wait()
    yield
    if not current_place().local_rank:
        wait()


def own(items: Sequence[Item]) -> Sequence[Item]:
    """This rank's items when they are dealt out one by one: ranks end at about the same time."""
    return items[rank() :: world()]


def in_rounds(work: Callable[[Item], Any], items: Sequence[Item]) -> Iterator[Any]:
    """What ``work`` makes of each item, a JSON document, in order and on every rank; each rank does one a round.

    Yielded round by round, so that what is there can be kept before the next one begins.
    """
    for first in range(0, len(items), world()):
        mine = own(items[first : first + world()])
        found = gather([work(item) for item in mine])
        yield from (document for part in found for document in part)


def own_by_cost(items: Sequence[Item], cost: Callable[[Item], float]) -> list[Item]:
    """This rank's items, in their order, when the dearest is dealt out first and each goes to who has least to do."""
    loads, mine = [0.0] * world(), []
    for place in sorted(range(len(items)), key=lambda place: cost(items[place]), reverse=True):
        receiver = loads.index(min(loads))
        loads[receiver] += cost(items[place])
        if receiver == rank():
            mine.append(place)
    return [items[place] for place in sorted(mine)]


def parallel(network: nn.Module, device: torch.device) -> nn.Module:
    """What to call in place of the network in training: gradients come out averaged over the ranks, and BatchNorm is
    synchronised. The network itself in a single process."""
    if world() == 1:
        return network
    network = synchronise_batch_norm(network)
    devices = [torch.cuda.current_device()] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices)
