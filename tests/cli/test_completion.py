"""What the shell offers after TAB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rushkit.cli.complete import (
    complete_attacks,
    complete_changes,
    complete_recipes,
    complete_runs,
    complete_targets,
)

ROOT = Path(__file__).parents[2]


def run(folder: Path, verb: str, minute: int, recipe: str = "digits") -> Path:
    path = folder / "runs" / f"{minute:02d}-{verb}"
    path.mkdir(parents=True)
    started = f"2030-01-01T00:{minute:02d}:00+00:00"
    facts = {"verb": verb, "recipe": recipe, "status": "finished", "started": started}
    (path / "run.json").write_text(json.dumps(facts))
    return path


def names(offers):
    return [name for name, _ in offers]


def test_recipes_attacks_and_targets_by_their_beginning():
    assert {"cifar10", "cifar100", "cifar10-cpu"} <= set(names(complete_recipes("cif")))
    assert names(complete_attacks("autoa")) == ["autoattack"]
    assert {"stl10", "stl10-unlabeled"} <= set(names(complete_targets("stl")))
    assert complete_recipes("nothing") == []


def test_runs_are_offered_newest_first_after_their_recipes(folder):
    run(folder, "pretrain", 1)
    run(folder, "finetune", 2)
    (folder / "runs" / "broken").mkdir()
    (folder / "runs" / "broken" / "run.json").write_text("{")
    assert [offer for offer in complete_runs("") if offer[1] != "comes with rushkit"] == [
        ("digits", "newest run of recipe digits"),
        ("02-finetune", "finetune digits, finished"),
        ("01-pretrain", "pretrain digits, finished"),
    ]
    assert names(complete_runs("fin")) == ["finetune"]
    assert names(complete_runs("runs/0")) == ["runs/02-finetune", "runs/01-pretrain"]
    assert names(complete_runs("dig")) == ["digits"]


def test_runs_are_looked_for_where_the_environment_says(folder, monkeypatch):
    run(folder, "pretrain", 1)
    monkeypatch.setenv("RUSHKIT_RUNS", "elsewhere")
    assert {about for _, about in complete_runs("")} == {"comes with rushkit"}


def test_keys_and_then_the_components_that_they_name():
    assert "pretrain.epochs=" in names(complete_changes("pretrain.ep"))
    assert names(complete_changes("noise.name=g")) == ["noise.name=gaussian"]
    assert complete_changes("pretrain.epochs=1") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("rushkit pretrain --recipe dig", "digits"),
        ("rushkit attack --from 01", "01-finetune"),
        ("rushkit report 01", "01-finetune"),
        ("rushkit finetune --to cifar10", "cifar100"),
        ("rushkit pretrain --set noise.name=lap", "noise.name=laplace"),
        ("rushkit recipe show dig", "digits"),
        ("rushkit finetune --set finetune.optimizer.l", "finetune.optimizer.lr="),
        ("rushkit attack --type autoa", "autoattack"),
        ("rushkit attack --device cu", "cuda"),
        ("rushkit certify --split va", "validation"),
    ],
)
def test_the_shell_is_answered_without_torch(folder, words, expected):
    run(folder, "finetune", 1)
    answer = "import sys; from rushkit.cli.app import main\ntry:\n    main([])\nfinally:\n"
    script = f"{answer}    assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "_RUSHKIT_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
    )
    assert "Error" not in done.stderr, done.stderr
    assert expected in done.stdout.split(), (done.stdout, done.stderr)


def test_a_key_of_few_values_offers_them():
    assert names(complete_changes("system.precision=")) == [
        f"system.precision={value}" for value in ("auto", "float32", "bf16")
    ]
    assert names(complete_changes("data.limit=")) == []
    assert {"noise.std=", "noise.scale="} <= set(names(complete_changes("noise.")))
