"""Two launchers on one machine, as torchrun would run on two: a job of both, in one run folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
from commands import TINY, sets


@pytest.mark.slow
def test_two_launchers_train_one_network(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    # Where a machine's own name leads is not to be relied on.
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1"]
    command += ["-m", "rushkit", "pretrain", "--recipe", "digits", "--json", *sets(*TINY)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RUSHKIT_RUNS": str(tmp_path / "runs")}
    nodes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    (run,) = (tmp_path / "runs").iterdir()
    told = json.loads((run / "run.json").read_text())
    assert (told["ranks"], told["status"]) == (2, "finished")
    # Rank 0 alone has printed, on whichever node it is.
    (document,) = (out for out, _ in said if out)
    assert json.loads(document)["run"].endswith(run.name)
