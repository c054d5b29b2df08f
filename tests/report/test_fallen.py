"""Which image fell to what: by the climb that broke it, or by the candidate whose version was kept."""

from __future__ import annotations

from types import SimpleNamespace

from rushkit.report.fallen import fallen
from rushkit.results.adaptive import OwnAttackUsed
from rushkit.results.rounds import AttackRound


def climb(**changes):
    shared = {"method": "falling", "loss": "nll", "steps": 10, "draws": 4, "most_draws": 4, "start": "random"}
    return AttackRound(**shared | {"doubling": 1, "momentum": 0.0, "step_size": 0.5, "offered": [10]} | changes)


def row(**about):
    shared = {"rounds": [], "own": [], "candidates": [], "votes": 10}
    return SimpleNamespace(**shared | about)


def test_climbs_and_own_attacks_are_told_by_their_numbers():
    rounds = [climb(), climb(loss="margin", steps=100, options={"rival": 2})]
    outcomes = SimpleNamespace(indices=[7, 3, 9, 1, 5, 2], first_broken={"majority": [1, 1, 3, -2, -1, 0]})
    assert fallen(row(rounds=rounds, own=[OwnAttackUsed(code="mine.py:attack")], outcomes=outcomes)) == {
        "clean": [2],
        "nll 10x4": [3, 7],
        "mine.py:attack": [9],
        "smaller ball": [1],
        "nothing": [5],
    }


def test_other_attacks_are_told_by_the_majority_of_the_final_votes():
    candidates = [SimpleNamespace(label=label) for label in ("autoattack rand", "mine.py:attack")]
    outcomes = SimpleNamespace(
        indices=[0, 1, 2, 3],
        first_broken={},
        right={"majority": [5, 6, 0, 2]},
        clean_right={"majority": [9, 9, 5, 10]},
        chosen=[0, 0, -1, 1],
    )
    assert fallen(row(candidates=candidates, own=[OwnAttackUsed(code="mine.py:attack")], outcomes=outcomes)) == {
        "clean": [2],
        "autoattack rand": [0],
        "mine.py:attack": [3],
        "nothing": [1],
    }
