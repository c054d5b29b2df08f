"""Which run builds on which, wherever the folders have been moved to."""

from __future__ import annotations

from pathlib import Path

import pytest

from rushkit.run.info import RunInfo
from rushkit.run.lineage import parents


def run(name, parent=None):
    return RunInfo(Path("runs") / name, "finetune", "digits", "finished", "", data={"parent": parent})


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("runs/one", "one"),
        ("/moved/from/one/checkpoints/step-000001.safetensors", "one"),
        # A folder of runs may lie in another run's; what the path ends in is what was meant.
        ("two/runs/one/checkpoints/best", "one"),
        ("one/runs/two/checkpoints/best", "two"),
        ("one/runs/three/checkpoints/best", "one"),
        ("elsewhere/gone", None),
        (None, None),
        (7, None),
    ],
)
def test_the_parent_is_the_last_part_of_the_path_that_is_a_run_and_not_itself(stored, expected):
    assert parents([run("one"), run("two"), run("three", stored)]) == {"one": None, "two": None, "three": expected}
