"""What the ranks of one machine listen at while a job of theirs runs: nothing that another machine could reach."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
from commands import TINY, sets

if not Path("/proc/self/net/tcp").exists():
    pytest.skip("the system does not tell in /proc what listens", allow_module_level=True)

# Run in a rank: the addresses that this process, and the one that started it, listen at, as the system writes them.
_LISTENERS = """
import json, os
from pathlib import Path

def note_listeners():
    found = of_process("self") + (of_process(os.getppid()) if "RUSHKIT_JOB_FOLDER" in os.environ else [])
    Path(f"listeners-{os.environ['RANK']}.json").write_text(json.dumps(found))

def of_process(process):
    sockets = set()
    for handle in Path(f"/proc/{process}/fd").iterdir():
        try:
            sockets.add(os.readlink(handle))
        except FileNotFoundError:  # The one that the folder was read through.
            pass
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/self/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.append(fields[1].partition(":")[0])
    return found
"""
_TRAIN = f"""{_LISTENERS}
import sys
from rushkit import __main__
from rushkit.training import loop

step = loop.train_batch
loop.train_batch = lambda *arguments: note_listeners() or step(*arguments)
sys.exit(__main__.main())
"""
_JOIN = f"""{_LISTENERS}
from rushkit.distributed import ranks

ranks.join()
note_listeners()
ranks.wait()
"""


def listeners(folder: Path, rank: int) -> set[str]:
    """The addresses that a rank noted; ``tcp6`` has them in four words, each of them, as in ``tcp``, backwards."""
    addresses = set()
    for text in json.loads((folder / f"listeners-{rank}.json").read_text()):
        words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
        addresses.add(str(ip_address(b"".join(words))))
    return addresses


def test_a_job_of_nproc_listens_on_the_loopback_alone(folder):
    (folder / "train.py").write_text(_TRAIN)
    command = [sys.executable, "train.py", "pretrain", "--recipe", "digits", "-q", *sets(*TINY)]
    job = f"import sys; from rushkit.distributed.start import run_ranks; sys.exit(run_ranks({command!r}, 2))"
    # In a process that has no sockets of its own.
    assert subprocess.run([sys.executable, "-c", job], check=False).returncode == 0
    assert [listeners(folder, rank) for rank in range(2)] == [{"127.0.0.1"}] * 2


@pytest.mark.parametrize(
    "where",
    [
        {"MASTER_ADDR": "127.0.0.1"},
        {"MASTER_ADDR": socket.gethostname(), "LOCAL_WORLD_SIZE": "2"},
    ],
    ids=["rank 0 is met on the loopback", "all ranks are on this machine"],
)
def test_ranks_that_others_start_on_one_machine_listen_on_the_loopback_alone(folder, where):
    (folder / "join.py").write_text(_JOIN)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | where | {"WORLD_SIZE": "2", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen([sys.executable, "join.py"], env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    assert [listeners(folder, rank) for rank in range(2)] == [{"127.0.0.1"}] * 2
