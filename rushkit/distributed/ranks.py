"""The ranks of a job: joining, collectives, and sharing the work.

Under ``torchrun`` or ``--nproc`` every rank runs the same stage. A batch, or a list of blocks, is divided among the
ranks, and every draw is the one that a single process would make, so that no result depends on the number of ranks.
Nothing here sends pickles: what is not a tensor is sent as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from rushkit import interrupt
from rushkit.distributed.rendezvous import meet, stay_on_this_machine
from rushkit.errors import UsageError
from rushkit.models.batch_norm import synchronise_batch_norm
from rushkit.place import current_place, take_place

Item = TypeVar("Item")

# How long a rank waits for the others: a hard block can take hours. A rank that dies is noticed at once.
_PATIENCE = timedelta(days=1)
_alone = False


def join() -> None:
    """Meet the other ranks of the job that the environment describes. Later calls do nothing, as in a single process.

    Under ``--nproc`` signals end this process at once until then, and are heard from then on. On a machine with GPUs
    each rank takes the GPU of its local rank. Where all ranks are on one machine, they do not
    listen on any interface that another machine can reach.

    Raises:
        UsageError: the variables in the environment make no sense, or rank 0 cannot listen at their address.
        RushkitError: a rank does not come in time.
    """
    if _alone or world() > 1:
        return
    here = take_place()
    if here.world == 1:
        return
    if here.on_one_machine:
        stay_on_this_machine()
    store = meet(here)
    if torch.cuda.is_available():
        torch.cuda.set_device(here.local_rank % torch.cuda.device_count())
    # Gloo beside NCCL: what the ranks agree on is on the CPU, and must not make the device wait.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # All have come, so one that is lost from here on need not be waited for as long as one that computes.
    soon = timedelta(seconds=here.wait)
    distributed.init_process_group(backend, store=store, rank=here.rank, world_size=here.world, timeout=soon)
    _set_timeout(_PATIENCE)
    if here.folder:
        interrupt.listen()


def _set_timeout(timeout: timedelta) -> None:
    """Let every operation wait this long for the other ranks. The function is private in torch before 2.14."""
    public = getattr(distributed, "set_timeout", None)
    (public or distributed.distributed_c10d._set_pg_timeout)(timeout)


def check_device(device: torch.device) -> None:
    """Raise UsageError if several ranks would compute on one GPU."""
    if device.type != "cuda" or world() == 1:
        return
    if str(device) != "cuda" or current_place().local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"rank {rank()} has no GPU of its own: device {device}, {torch.cuda.device_count()} GPUs on this machine",
            "start at most one rank a GPU, with system.device = auto or cuda; or with cpu",
        )


def rank() -> int:
    """Return the number of this process. Rank 0 prints and writes."""
    if _alone:
        return 0
    return distributed.get_rank() if distributed.is_initialized() else current_place().rank


def world() -> int:
    """Return how many processes have joined."""
    return distributed.get_world_size() if distributed.is_initialized() and not _alone else 1


@contextmanager
def alone() -> Iterator[None]:
    """Let this rank work as a single process inside a block: what ranks share there otherwise, it does by itself.

    Example::

        def make(case: Case) -> Made:  # an item that one rank works on
            with ranks.alone():
                return Made(audit_of(case))  # shares its measurements between all ranks otherwise
    """
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def broadcast(value: Any) -> Any:
    """Return the value of rank 0, a JSON document, on every rank. The values of the others are ignored."""
    return value if world() == 1 else gather(value if rank() == 0 else None)[0]


def gather(value: Any) -> list[Any]:
    """Return the values of all ranks, JSON documents, in the order of ranks, on every rank."""
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
    """Return the largest number of any rank."""
    if world() == 1:
        return number
    numbers = torch.tensor([number])
    distributed.all_reduce(numbers, distributed.ReduceOp.MAX)
    return int(numbers)


def any_rank(flag: bool) -> bool:
    """Return whether the flag is set on any rank. Every rank must ask, and all get the same answer."""
    return bool(largest(int(flag)))


def total(values: Tensor) -> Tensor:
    """Sum the tensors of all ranks in place, and return the sum."""
    if world() > 1:
        distributed.all_reduce(values)
    return values


def joined_rows(rows: Tensor, count: int) -> Tensor:
    """Return the rows (n, ...) of all ranks in their order, without a gradient; no rank has more than ``count``."""
    if world() == 1:
        return rows.detach()
    lengths = gather(len(rows))
    padded = rows.new_zeros(count, *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in lengths]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def wait() -> None:
    """Wait until every rank has come this far."""
    any_rank(False)


@contextmanager
def first_on_node() -> Iterator[None]:
    """Let the first rank of each machine run a block before the others, which then find what it cached.

    If the block fails, it fails once, on the first rank.
    """
    if current_place().local_rank:
        wait()
    yield
    if not current_place().local_rank:
        wait()


def own(items: Sequence[Item]) -> Sequence[Item]:
    """Return this rank's items if they are dealt out round-robin, so that ranks finish at about the same time."""
    return items[rank() :: world()]


def in_rounds(work: Callable[[Item], Any], items: Sequence[Item]) -> Iterator[Any]:
    """Yield ``work(item)``, a JSON document, for each item in order and on every rank; each rank does one per round.

    The documents come round by round, so that the caller can keep them before the next round begins.
    """
    for first in range(0, len(items), world()):
        parts = gather([work(item) for item in own(items[first : first + world()])])
        yield from (document for part in parts for document in part)


def own_by_cost(items: Sequence[Item], cost: Callable[[Item], float]) -> list[Item]:
    """Return this rank's items, in order, if each goes to the rank with the least work, most expensive first."""
    loads, mine = [0.0] * world(), []
    for place in sorted(range(len(items)), key=lambda place: cost(items[place]), reverse=True):
        receiver = loads.index(min(loads))
        loads[receiver] += cost(items[place])
        if receiver == rank():
            mine.append(place)
    return [items[place] for place in sorted(mine)]


def synchronise(module: nn.Module) -> None:
    """Give a module rank 0's tensors, and make its BatchNorm layers take statistics over all ranks' rows, in place."""
    if world() == 1:
        return
    synchronise_batch_norm(module)
    with torch.no_grad():
        _joined([*module.parameters(), *module.buffers()], lambda flat: distributed.broadcast(flat, 0))


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the ranks.

    A parameter without a gradient must be without one on every rank.
    """
    if world() > 1:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        _joined(gradients, lambda flat: distributed.all_reduce(flat), divisor=world())


def _joined(tensors: Sequence[Tensor], communicate: Callable[[Tensor], object], divisor: int = 1) -> None:
    """Replace tensors by what a collective makes of them, in one call for each dtype."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in alike])
        communicate(flat)
        if divisor != 1:
            flat /= divisor
        for tensor, part in zip(alike, flat.split([tensor.numel() for tensor in alike]), strict=True):
            tensor.copy_(part.view(tensor.shape))
