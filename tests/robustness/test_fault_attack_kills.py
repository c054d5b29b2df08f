"""rushkit attack, killed at any file operation, goes on to what it would have come to without the kill."""

from __future__ import annotations

import pytest
import torch
from kills import killed_at
from tiny_runs import QUIET, checkpoint_of, finetuned

from rushkit.robustness.attack import attack
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.folder import Run
from rushkit.setup.start import start_run


@pytest.fixture
def attacked_by(tiny, monkeypatch):
    """-> a recipe of an attack on 6 images in blocks of 2, under a little noise."""
    monkeypatch.setattr("rushkit.robustness.attack.BLOCK", 2)
    return tiny(
        "data.limit=24",
        "finetune.epochs=1",
        "noise.scale=0.1",
        "system.chunk=8",
        "attack.0.samples=[4]",
        "attack.0.limit=6",
        "attack.0.eps=0.2",
        "attack.0.steps=1",
        "attack.0.restarts=1",
    )


@pytest.mark.parametrize("transfers", [False, True], ids=["save", "transfer"])
def test_a_kill_at_any_file_operation_changes_nothing_that_comes_out(attacked_by, transfers):
    source = checkpoint_of(finetuned(attacked_by, None))
    options = {"protocols": ("paper",), "save": True, "transfer": source if transfers else None}

    def begun():
        return start_run("attack", attacked_by, QUIET, parent=str(source.path))

    with begun() as run:
        whole = timeless(attack(attacked_by, source, run, **options).to_json())
    pixels, files = images_of(run), files_of(run)
    for number in range(1000):
        run = begun()
        dead = killed_at(number, run.path, lambda run=run: attack(attacked_by, source, run, **options).to_json())
        run.close()
        if not dead:
            break
        with Run.open(run.path, QUIET) as again:
            assert timeless(attack(attacked_by, source, again, **options).to_json()) == whole, number
        assert all(torch.equal(images_of(again)[key], pixels[key]) for key in pixels), number
        assert files_of(again) == files, number
    assert number > 20


def test_what_an_attack_knew_of_a_finished_block_goes_with_the_next_resume(attacked_by):
    source = checkpoint_of(finetuned(attacked_by, None))
    with start_run("attack", attacked_by, QUIET, parent=str(source.path)) as run:
        attack(attacked_by, source, run, protocols=("paper",))
    (log,) = (run.path / "counts").glob("*.jsonl")
    # A kill came between the block's outcome and the removal of what led to it.
    left = [log.with_name(f"{log.stem}.{start:08d}.part.safetensors") for start in (0, 4)]
    for path in left:
        path.write_bytes(b"")
    with Run.open(run.path, QUIET) as again:
        attack(attacked_by, source, again, protocols=("paper",))
    assert not [path for path in left if path.exists()]


def timeless(results):
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in results["attacks"]]
    return {**results, "attacks": rows, "run": None}


def images_of(run):
    (path,) = (run.path / "adversarial").glob("*.safetensors")
    return load_checkpoint(path).tensors


def files_of(run):
    return {path.relative_to(run.path).as_posix() for path in run.path.rglob("*")}
