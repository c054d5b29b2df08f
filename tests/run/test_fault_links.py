"""What rushkit writes into a folder that is somebody else's never goes through a link that waits there."""

from __future__ import annotations

import os

import pytest
import torch

from rushkit import files
from rushkit.data import cache
from rushkit.errors import RushkitError
from rushkit.files import write_atomic
from rushkit.results.run_file import Facts
from rushkit.run.folder import Run
from rushkit.run.log import BlockLog
from rushkit.run.speaker import Speaker

PRECIOUS = "mine\n"


@pytest.fixture
def precious(tmp_path):
    """A file of the user's, somewhere else."""
    path = tmp_path / "precious"
    path.write_text(PRECIOUS)
    return path


def a_run(root):
    run = Run.create(root, "pretrain", "digits", Facts(), "", Speaker(-1, rank=0))
    run.close()
    return run.path


def write_something(path):
    with Run.open(path, Speaker(-1)) as run:
        run.speaker.say("a sentence")
        run.metrics.append(step=1, loss=0.5)


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl"])
def test_a_run_folder_with_a_link_changes_no_file_elsewhere(tmp_path, precious, name):
    path = a_run(tmp_path / "runs")
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(precious)
    with pytest.raises(RushkitError, match="it is a link to another file"):
        write_something(path)
    assert precious.read_text() == PRECIOUS


def test_a_log_that_is_a_link_gets_no_line_and_stops_nothing(tmp_path, precious):
    path = a_run(tmp_path / "runs")
    (path / "log.txt").unlink(missing_ok=True)
    (path / "log.txt").symlink_to(precious)
    write_something(path)
    assert precious.read_text() == PRECIOUS
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_temporary_file_that_can_be_foreseen_is_not_written_through(tmp_path, precious):
    (tmp_path / f".results.json.{os.getpid()}.partial").symlink_to(precious)
    write_atomic(tmp_path / "results.json", [b"{}"])
    assert precious.read_text() == PRECIOUS
    assert not (tmp_path / "results.json").is_symlink()


def test_the_name_of_a_temporary_file_is_another_each_time(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(files, "sync_folder", lambda folder: None)
    replace = type(tmp_path).replace
    monkeypatch.setattr(
        type(tmp_path), "replace", lambda self, target: (names.append(self.name), replace(self, target))[1]
    )
    for _ in range(2):
        write_atomic(tmp_path / "file", [b""])
    assert len(set(names)) == 2


def test_a_cache_with_a_link_in_the_place_of_its_images_changes_no_file_elsewhere(tmp_path, precious, monkeypatch):
    cache_with_a_link(tmp_path, monkeypatch, "it.partial", precious)
    with pytest.raises(RushkitError, match="it is a link to another file"):
        cache_two_images()
    assert precious.read_text() == PRECIOUS


def test_a_cache_with_a_link_in_the_place_of_its_notes_changes_no_file_elsewhere(tmp_path, precious, monkeypatch):
    cache_with_a_link(tmp_path, monkeypatch, "it.json-partial", precious)
    cache_two_images()
    assert precious.read_text() == PRECIOUS


def cache_with_a_link(tmp_path, monkeypatch, name, target):
    monkeypatch.setenv("RUSHKIT_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "cache" / "data" / name
    place.parent.mkdir(parents=True)
    place.symlink_to(target)


def cache_two_images():
    images = torch.zeros(2, 3, dtype=torch.uint8)
    assert torch.equal(cache.cached("it", "source", (3,), lambda notes: iter([images])).images, images)


def test_a_line_is_not_cut_off_a_file_elsewhere(tmp_path, precious):
    precious.write_text("mine, without an end of line")
    path = a_run(tmp_path / "runs")
    (path / "metrics.jsonl").symlink_to(precious)
    with pytest.raises(RushkitError, match="it is a link to another file"):
        write_something(path)
    with pytest.raises(RushkitError, match="it is a link to another file"):
        BlockLog(path / "metrics.jsonl", {"model": "x"})
    assert precious.read_text() == "mine, without an end of line"
