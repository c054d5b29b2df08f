"""What cannot run is refused before the first pass; an attack that raises later fails alone."""

from __future__ import annotations

import json

import pytest
from commands import contents, only, sets

from rushkit import registries

CALLS = []


class Broken:
    """An attack that fails on its first image, and counts how often it was asked."""

    def __init__(self, norm, eps):
        self.norm, self.eps = norm, eps

    def __call__(self, model, x, y):
        CALLS.append(len(x))
        raise ValueError("no such pixel")


@pytest.fixture(autouse=True)
def broken():
    CALLS.clear()
    registries.attacks.register("broken")(Broken)
    yield
    registries.attacks.unregister("broken", Broken.__module__.partition(".")[0])


def these(*kinds, protocol="paper"):
    tables = ", ".join(f"{{type = '{kind}', limit = 4, samples = [1]}}" for kind in kinds)
    return ("attack", "--protocol", protocol, *sets(f"attack=[{tables}]"))


def test_an_attack_that_raises_fails_alone_and_the_others_have_results(cli, runs):
    said = cli(*these("broken", "fgsm"), "--save")
    assert said.code == 1
    assert "broken l-inf 8/255 paper, m = 1 failed: ValueError: no such pixel" in said.out
    assert said.err.count("error: ") == 1
    assert "error: 1 of 2 attacks failed: broken l-inf 8/255 paper, m = 1 failed: ValueError" in said.err
    run = only(runs, "attack")
    results = json.loads((run / "results.json").read_text())
    assert [row["attack"] for row in results["attacks"]] == ["fgsm"]
    (failed,) = results["failed"]
    assert (failed["attack"], failed["samples"], failed["message"]) == ("broken", 1, "ValueError: no such pixel")
    assert [name for name in contents(run) if "broken" in name and not name.startswith("counts/")] == []
    assert "failed: ValueError: no such pixel" in cli("runs", "show", run.name).out
    assert "1 failed" in cli("runs", "list").out


def test_going_on_does_not_try_a_failed_attack_again(cli, runs):
    cli(*these("broken", "fgsm"))
    run = only(runs, "attack")
    again = cli("attack", "--resume", "--run", run.name)
    assert again.code == 1
    assert "1 of 2 attacks failed" in again.err
    assert CALLS == [4]


def test_all_that_cannot_run_is_named_in_one_error_before_there_is_a_run(fails, runs):
    before = sorted(runs.iterdir())
    tables = "{type='deepfool', norm='l1', eps=1.0}, {type='pgd'}, {type='fgsm', norm='l2', eps=1.0}"
    said = fails(2, "attack", *sets(f"attack=[{tables}]"))
    assert "2 of 3 attacks cannot run" in said.err
    assert "attack.0 (deepfool): deepfool has no norm 'l1'" in said.err
    assert "attack.2 (fgsm): fgsm has no norm 'l2'" in said.err
    assert sorted(runs.iterdir()) == before
