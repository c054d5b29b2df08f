"""Counts and outcomes that were altered after they were written are found, whatever the alteration."""

from __future__ import annotations

import json
import shutil

import pytest
from tiny_runs import QUIET, TINY, checkpoint_of, finetuned

from rushkit.certification.certify import certify, recertify
from rushkit.errors import RushkitError
from rushkit.recipe.load import load_recipe
from rushkit.robustness.attack import attack
from rushkit.run.folder import Run
from rushkit.setup.start import start_run

CHANGES = (
    *TINY,
    "backbone.name=resnet10-small",
    "finetune.epochs=1",
    "noise.scale=0.2",
    "certify.samples=200",
    "certify.selection=50",
    "certify.limit=4",
    "system.chunk=8",
    "attack.0.samples=[4]",
    "attack.0.limit=6",
    "attack.0.steps=1",
    "attack.0.restarts=1",
)


@pytest.fixture(scope="module", autouse=True)
def blocks_of_two():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rushkit.robustness.attack.BLOCK", 2)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    recipe = load_recipe("digits", [*CHANGES, f"system.runs_dir={tmp_path_factory.mktemp('altered') / 'runs'}"], {})
    return recipe, checkpoint_of(finetuned(recipe, None))


def measured(trained, verb, work):
    with start_run(verb, trained[0], QUIET, parent=str(trained[1].path)) as run:
        work(*trained, run)
    (log,) = (run.path / "counts").glob("*.jsonl")
    return run, log


@pytest.fixture(scope="module")
def counted(trained):
    return measured(trained, "certify", certify)


@pytest.fixture(scope="module")
def attacked(trained):
    return measured(trained, "attack", lambda *given: attack(*given, protocols=("paper",)))


def put(record, *place):
    """An alteration: ``put(2, "votes", 0, 1, 7)`` sets the entry of line 2 to 7."""

    def alter(lines):
        *keys, last, value = place
        target = lines[record]
        for key in keys:
            target = target[key]
        target[last] = value

    return alter


def move_votes(lines):
    """A vote of one class goes to another: all sums stay."""
    row = max(lines[2]["votes"], key=max)
    most = row.index(max(row))
    row[most] -= 1
    row[(most + 1) % len(row)] += 1


def swap_images(lines):
    first, second = lines[1]["labels"], lines[1]["images"]
    first[0], first[1], second[0], second[1] = first[1], first[0], second[1], second[0]


COUNTS = {
    "a vote goes to another class": move_votes,
    "a vote more": put(2, "votes", 0, 0, 60),
    "a vote below zero": put(2, "votes", 0, 0, -1),
    "half a vote": put(2, "votes", 0, 0, 0.5),
    "a vote in words": put(2, "votes", 0, 0, "3"),
    "a vote of 30 digits": put(2, "votes", 0, 0, 10**30),
    "a class too few": lambda lines: [row.pop() for row in lines[2]["votes"]],
    "votes of an image missing": lambda lines: lines[2]["votes"].pop(),
    "the selection's votes": put(1, "votes", 0, [50, *[0] * 9]),
    "another label": lambda lines: put(1, "labels", 0, (lines[1]["labels"][0] + 1) % 10)(lines),
    "a label that is no class": put(1, "labels", 0, 10),
    "an image that is not there": put(1, "images", 0, 999),
    "an image twice": lambda lines: put(1, "images", 0, lines[1]["images"][1])(lines),
    "two images change places": swap_images,
    "confidences": put(2, "scores", 0, 1),
    "squared confidences": put(2, "squares", 0, 0),
    "confidences of the selection": lambda lines: lines[1]["scores"][0].reverse(),
    "where draws begin": put(2, "start", 10),
    "where draws end": put(2, "stop", 90),
    "how many were drawn": put(2, "drawn", 1),
    "a duration below zero": put(2, "seconds", -5.0),
    "a duration in words": put(2, "seconds", "soon"),
    "what a line is": put(2, "part", "round"),
    "the dimension": put(0, "subject", "dim", 12),
    "the images it was chosen from": put(0, "subject", "of", 10),
    "a split larger than any": put(0, "subject", "of", 10**12),
    "the precision": put(0, "subject", "precision", "bfloat16"),
    "a warning is gone": put(0, "subject", "warnings", ["none"]),
    "the classes": lambda lines: lines[0]["subject"]["classes"].reverse(),
    "a line is gone": lambda lines: lines.pop(2),
    "the last line is gone": lambda lines: lines.pop(),
    "a line is doubled": lambda lines: lines.insert(2, lines[2]),
    "lines change places": lambda lines: lines.insert(1, lines.pop(2)),
    "a line is added": lambda lines: lines.append({**lines[-1], "images": []}),
    "a line is a list": lambda lines: lines.insert(2, []),
}


@pytest.mark.parametrize("alter", COUNTS.values(), ids=COUNTS)
def test_no_certificate_comes_of_altered_counts(trained, counted, tmp_path, alter):
    path = altered(*counted, tmp_path, alter)
    with pytest.raises(RushkitError, match=r"certify\.jsonl is damaged"):
        recertify(trained[0], path)


def test_a_certification_does_not_go_on_from_altered_counts(trained, counted, tmp_path):
    path = altered(*counted, tmp_path, move_votes)
    with pytest.raises(RushkitError, match=r"certify\.jsonl is damaged"), Run.open(path, QUIET) as run:
        certify(*trained, run)


OUTCOMES = {
    "a vote more": put(1, "right", "majority", 0, 99),
    "a vote below zero": put(1, "right", "majority", 0, -1),
    "a vote in words": put(1, "right", "majority", 0, "1"),
    "votes of an original": put(1, "clean_right", "majority", 0, -3),
    "a vote more for a class": put(1, "taken_for", "majority", "votes", 0, 99),
    "a class below every other": put(1, "clean_taken_for", "mean", "classes", 0, -3),
    "the class of an image missing": lambda lines: lines[1]["taken_for"]["mean"]["classes"].pop(),
    "classes before the attack are gone": lambda lines: lines[1].pop("clean_taken_for"),
    "a rule is gone": lambda lines: lines[1]["right"].pop("mean"),
    "votes of an image missing": lambda lines: lines[1]["right"]["mean"].pop(),
    "another label": lambda lines: put(1, "labels", 0, (lines[1]["labels"][0] + 1) % 10)(lines),
    "another image": put(1, "images", 0, 5),
    "a candidate that there is not": put(1, "chosen", 0, 7),
    "passes": put(1, "image_forwards", 1),
    "what an attack broke": put(1, "contributions", {"pgd": -2}),
    "a duration in words": put(1, "seconds", "soon"),
    "a note": put(1, "notes", [3]),
    "a line is gone": lambda lines: lines.pop(1),
    "a line is doubled": lambda lines: lines.insert(1, lines[1]),
    "lines change places": lambda lines: lines.insert(1, lines.pop(2)),
}


@pytest.mark.parametrize("alter", OUTCOMES.values(), ids=OUTCOMES)
def test_an_attack_does_not_go_on_from_altered_outcomes(trained, attacked, tmp_path, alter):
    path = altered(*attacked, tmp_path, alter)
    with pytest.raises(RushkitError, match=r"m4\.jsonl is damaged"), Run.open(path, QUIET) as run:
        attack(*trained, run, protocols=("paper",))


def altered(run, log, place, alter):
    """The folder of a copy of the run whose log is altered."""
    copy = place / run.path.name
    shutil.copytree(run.path, copy)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) >= 3
    alter(lines)
    (copy / "counts" / log.name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return copy
