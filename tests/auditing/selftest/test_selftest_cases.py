"""The self-test on some of its own cases, those on the base network, which are built and audited in seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rushkit.auditing.selftest.cases import CASES
from rushkit.auditing.selftest.ground import Ground
from rushkit.auditing.selftest.stage import self_test, self_test_recipe
from rushkit.results.selftest import GROUPS
from rushkit.run.speaker import Speaker
from rushkit.setup.start import start_run

# The check that names the fault, by case.
BROKEN = {
    "saturated": "RK107",
    "detached, misled": "RK122",
    "rejects low confidence": "RK128",
    "balanced over the batch": "RK124",
}
WEAK = {"step eps/1000": "RK131", "descends": "RK108"}
SOUND = ("linear, l-inf", "base net, l-inf")
# The ball in which a weak attack has something to leave on the base network.
EPS = 0.05


class BaseGround(Ground):
    """The network that weak attacks are tried on is the base network: adversarial training takes too long here."""

    @property
    def robust(self):
        return self.base


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Name -> row of the cases above."""
    names = [*BROKEN, *WEAK, *SOUND]
    cases = [replace(case, eps=EPS) if case.name in WEAK else case for case in CASES]
    recipe = self_test_recipe(7, runs_dir=str(tmp_path_factory.mktemp("runs")))
    with pytest.MonkeyPatch.context() as patch, start_run("audit", recipe, Speaker(-1)) as run:
        patch.setattr("rushkit.auditing.selftest.stage.Ground", BaseGround)
        results = self_test(recipe, names, run, cases)
    return {row.name: row for row in results.cases}


@pytest.mark.parametrize("name", [*BROKEN, *WEAK])
def test_a_planted_fault_is_named(rows, name):
    code = (BROKEN | WEAK)[name]
    assert code in rows[name].failed
    assert rows[name].caught


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_defence_claims_more_than_is_left_of_it(rows, name):
    row = rows[name]
    assert row.claimed is not None
    assert row.left is not None
    if name != "balanced over the batch":
        # Its answers depend on the batch: that is the fault, whatever it claims.
        assert row.claimed > 0.9
    assert min(row.left, row.adaptive or 1.0) < 0.2


@pytest.mark.parametrize("name", SOUND)
def test_no_check_fails_on_a_sound_model(rows, name):
    assert rows[name].failed == []
    assert rows[name].counts


def test_the_held_out_cases_are_marked_and_every_fault_names_its_checks():
    for case in CASES:
        assert (case.kind, case.held_out) in GROUPS
        assert bool(case.causes) == (case.kind != "sound"), case.name
