"""Rows that start from a run or a checkpoint of elsewhere: what is in it is their identity, not where it lies."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from rushkit.errors import UsageError
from rushkit.run.checkpoint import load_checkpoint, save_checkpoint
from rushkit.run.shipped import shipped_run
from rushkit.study.load import parse_study
from rushkit.study.make import make_plan
from rushkit.study.plan import Planned

TEXT = """
schema = 1
title = "theirs"
[[stage]]
do = "evaluate"
samples = [1]
[[row]]
label = "A"
"""


def job(named: str, folder: Path = Path("no-runs")) -> Planned:
    """The only job of a study whose row starts there."""
    (planned,) = make_plan(parse_study(f"{TEXT}{named}\n", Path("mine.toml")), folder).jobs.values()
    return planned


@pytest.fixture(scope="module")
def shipped() -> Path:
    """The checkpoint of ``shipped/digits``."""
    run = shipped_run("shipped/digits")
    assert run is not None
    return run.store().load_latest().path


def test_the_identity_of_a_run_is_what_its_checkpoint_holds(shipped):
    planned = job('run = "shipped/digits"')
    assert planned.job.parents == {"model": f"sha256:{load_checkpoint(shipped).hash}"}
    assert (planned.needs, planned.sources) == ((), (("model", shipped),))


def test_the_same_checkpoint_elsewhere_is_the_same_job(shipped, tmp_path):
    copy = shutil.copy(shipped, tmp_path / "theirs.safetensors")
    assert job(f'checkpoint = "{copy}"').id == job('run = "shipped/digits"').id


def test_another_checkpoint_is_another_job(shipped, tmp_path):
    checkpoint = load_checkpoint(shipped)
    name, tensor = next(iter(checkpoint.tensors.items()))
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, checkpoint.tensors | {name: tensor + 1}, checkpoint.meta)
    assert job(f'checkpoint = "{other}"').id != job(f'checkpoint = "{shipped}"').id


@pytest.mark.parametrize("key", ["run", "checkpoint"])
def test_one_that_is_missing_is_said_with_its_line(key, tmp_path):
    with pytest.raises(UsageError) as error:
        job(f'{key} = "{tmp_path / "none.safetensors"}"', tmp_path / "runs")
    assert re.search(rf"mine\.toml:9: row\.0\.{key}: .*none\.safetensors", error.value.message)


def test_a_file_that_is_no_checkpoint_is_said_with_its_line(tmp_path):
    (tmp_path / "none.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UsageError, match=r"mine\.toml:9: row\.0\.checkpoint: "):
        job(f'checkpoint = "{tmp_path / "none.safetensors"}"')
