"""A function as several ranks of a gloo group on this machine, as ``--nproc`` would start them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed, multiprocessing

from rushkit.distributed import ranks

# Imported once, in the process that all ranks are forked from: most of what a fresh rank would spend its time on.
PRELOADED = ["torch", "timm", "rushkit.training.pretrain", "rushkit.training.finetune", "rushkit.robustness.attack"]


def run_ranks(function: Callable[..., None], world: int, *arguments: Any) -> None:
    """Call ``function(*arguments)`` in each of ``world`` processes that have joined; what one raises is raised here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    multiprocessing.start_processes(
        _one_rank, (world, port, function, arguments), nprocs=world, start_method="forkserver"
    )


def _one_rank(rank: int, world: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(number) for name, number in numbers.items()}}
    ranks.join()
    function(*arguments)
    distributed.destroy_process_group()
