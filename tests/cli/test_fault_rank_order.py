"""Which of several ranks' errors is the job's: told by what they are and by the order in which they came about."""

from __future__ import annotations

import os

from rank_programs import AFTER_RANK_1, HOLD, program

from rushkit.cli import launch


def test_the_cause_is_shown_though_the_clock_went_back_before_its_consequence(folder, capfd, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    os.mkfifo("gone")
    # Whatever rank 0 leaves behind is older, by its time, than what rank 1 did.
    consequence = (
        f"import atexit\n{AFTER_RANK_1}\nbefore = set(Path().rglob('*'))\n"
        "atexit.register(lambda: [os.utime(file, (0, 0)) for file in set(Path().rglob('*')) - before])\n"
        "raise RushkitError('a consequence')"
    )
    assert launch.run_ranks(program(folder, consequence, f"{HOLD}\nraise RushkitError('the cause')"), 2) == 1
    assert capfd.readouterr().err == "error: the cause\n"


def test_a_rank_that_lost_its_peer_is_never_the_news(folder, capfd):
    """Rank 0 ends because rank 1 has left the group, and before rank 1 has said why it did."""
    os.mkfifo("gone")
    meet = "from rushkit.stages import ranks\nranks.join()"
    lost = f"{HOLD}\n{meet}\nranks.gather(0)\nranks.gather(1)"
    leave = "from torch import distributed\ndistributed.destroy_process_group()"
    cause = f"end = open('gone')\n{meet}\nranks.gather(0)\n{leave}\nend.read()\nraise PluginError('the cause')"
    assert launch.run_ranks(program(folder, lost, cause), 2) == 3
    assert capfd.readouterr().err == "error: the cause\n"
