"""Which run builds on which, wherever the folders have been moved to."""

from __future__ import annotations

from pathlib import Path

import pytest

from rushkit.results.run_file import RunFile
from rushkit.run.info import RunInfo
from rushkit.run.lineage import ancestors, parents


def run(name, parent=None):
    about = RunFile(verb="finetune", recipe="digits", status="finished", started="2030", parent=parent)
    return RunInfo(Path("runs") / name, "finetune", "digits", "finished", about.started, about=about)


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
    ],
)
def test_the_parent_is_the_last_part_of_the_path_that_is_a_run_and_not_itself(stored, expected):
    assert parents([run("one"), run("two"), run("three", stored)]) == {"one": None, "two": None, "three": expected}


def test_the_ancestors_of_a_run_come_nearest_first():
    above = {"head": "encoder", "encoder": "older", "older": None, "other": None}
    assert ancestors("head", above) == ["encoder", "older"]
    assert ancestors("older", above) == []


def test_a_circle_of_runs_is_followed_once():
    assert ancestors("one", {"one": "two", "two": "one"}) == ["two"]
