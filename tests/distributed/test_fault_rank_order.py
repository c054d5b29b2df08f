"""Which of several ranks' errors is the job's: told by what they are and by the order in which they came about."""

from __future__ import annotations

import os
from pathlib import Path

from rank_programs import HOLD, program

from rushkit.distributed import start
from rushkit.errors import LOST_PEER


def test_the_cause_is_shown_though_its_process_ends_after_that_of_its_consequence(folder, capfd):
    os.mkfifo("said")
    consequence = "os.symlink(str(os.getpid()), 'pid')\nopen('said').read()\nraise RushkitError('a consequence')"
    # Called when the command has said its last words: rank 0 may go on, and the launcher has to see it end.
    cause = (
        "import atexit\nsaid = os.open('said', os.O_WRONLY)\npid = int(os.readlink('pid'))\n"
        "def stay():\n    os.close(said)\n    while Path('/proc', str(pid)).exists(): pass\n"
        "atexit.register(stay)\nraise RushkitError('the cause')"
    )
    assert start.run_ranks(program(folder, consequence, cause), 2) == 1
    assert capfd.readouterr().err == "error: the cause\n"


def test_a_rank_that_lost_its_peer_is_never_the_news(folder, capfd, monkeypatch):
    """Rank 0 ends because rank 1 has left the group, and the launcher sees it before rank 1 has said why it did."""
    os.mkfifo("gone")
    looks = start._Ranks._monitor_workers

    def looking(self, group):
        seen = looks(self, group)
        if LOST_PEER in self._codes:
            Path("looked").touch()
        return seen

    monkeypatch.setattr(start._Ranks, "_monitor_workers", looking)
    meet = "from rushkit.distributed import ranks\nranks.join()"
    lost = f"{HOLD}\n{meet}\nranks.gather(0)\nranks.gather(1)"
    leave = "from torch import distributed\ndistributed.destroy_process_group()"
    wait = "while not Path('looked').exists(): pass"
    cause = f"end = open('gone')\n{meet}\nranks.gather(0)\n{leave}\nend.read()\n{wait}\nraise PluginError('the cause')"
    assert start.run_ranks(program(folder, lost, cause), 2) == 3
    assert capfd.readouterr().err == "error: the cause\n"
