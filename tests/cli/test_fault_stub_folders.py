"""Folders that a process was killed in before there was a run."""

from __future__ import annotations

import json
import socket
import subprocess

import pytest


def stub(runs, *files):
    """A folder as a kill before the first run.json leaves it."""
    path = runs / "20200101-000000-pretrain-digits-00000a"
    path.mkdir(parents=True)
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name in files:
        (path / name).write_text(json.dumps({"pid": gone.pid, "host": socket.gethostname()}))
    return path


@pytest.mark.parametrize("files", [(), ("lock",), ("lock", ".run.json.7.partial"), ("lock", "recipe.toml")], ids=len)
def test_a_folder_without_a_run_is_listed_and_can_be_cleaned(cli, folder, files):
    path = stub(folder / "runs", *files)
    assert path.name[-6:] in cli("runs", "list").out
    said = cli("runs", "clean", "--yes", "--json")
    assert [row["run"] for row in json.loads(said.out)["runs"]] == [f"runs/{path.name}"]
    assert not path.exists()
