"""The cases are those that were specified, name the checks of their fault, and hang on the seed alone."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
import torch
from torch import nn

from rushkit.auditing.checks.checklist import CHECKS
from rushkit.auditing.selftest import ground as grounds
from rushkit.auditing.selftest import sound, stage
from rushkit.auditing.selftest.cases import CASES
from rushkit.auditing.selftest.ground import Ground
from rushkit.results.hit_rate import shipped_hit_rate

BROKEN = {
    ("linf", 0.15): (
        "rounding", "thermometer", "JPEG", "hard threshold", "median outside the graph", "saturated", "distilled",
        "steep sigmoids, 60", "steep sigmoids, 200", "detached, misled", "detached, weak skip", "purifier",
        "label leak, logits 20", "label leak, logits 5", "k-WTA 10 %", "resize + pad", "dropout .3/.5", "dropout .6",
        "noise by a hash", "rejects low confidence", "rejects on 3x3 mean", "balanced over the batch",
        "batch norm in train mode",
    ),
    ("linf", 0.08): ("k-WTA 3 %",),
}  # fmt: skip
WEAK = {
    ("linf", 0.15): (
        "step eps/1000", "one step of eps", "success only if label + 1 is reached",
        "slope of the start used for all steps", "steps / 10, step eps/20", "descends", "only upward", "eps / 255",
        "slope of another net", "l2 ball of the same number",
    ),
    ("l1", 15.0): ("l1 step over all coordinates by sign", "l1 step over 1 % of the coordinates"),
}  # fmt: skip
SOUND = {
    # It overshoots, and loses nothing on this network.
    ("linf", 0.15): ("step 2 eps each time",),
    ("linf", 0.03): ("linear, l-inf",),
    ("l2", 0.5): ("linear, l2",),
    ("linf", 0.1): ("PGD-trained, l-inf", "TRADES", "uniform noise", "Gaussian noise", "Laplace noise"),
    ("l2", 1.5): ("PGD-trained, l2",),
    ("linf", 0.05): ("base net, l-inf", "GELU network"),
    ("l2", 1.0): ("base net, l2",),
    ("l1", 15.0): ("PGD-trained, l1",),
}
# The checks that name each kind of fault, and the cases that have it; all other broken defences have false slopes.
SLOPES = ("RK104", "RK112", "RK122", "RK125")
WEAKNESS = (
    "RK102", "RK108", "RK109", "RK110", "RK111", "RK112", "RK113", "RK114", "RK118", "RK120", "RK121", "RK130", "RK131",
)  # fmt: skip
CAUSES = {
    ("RK104", "RK107"): ("saturated", "distilled"),
    ("RK123",): ("resize + pad", "dropout .3/.5", "dropout .6"),
    ("RK122", "RK125"): ("noise by a hash",),
    ("RK126",): ("label leak, logits 20", "label leak, logits 5"),
    ("RK128",): ("rejects low confidence", "rejects on 3x3 mean"),
    ("RK124",): ("balanced over the batch", "batch norm in train mode"),
    WEAKNESS: tuple(chain(*WEAK.values())),
    (): tuple(chain(*SOUND.values())),
}


@pytest.mark.parametrize(("kind", "specified"), [("broken", BROKEN), ("weak", WEAK), ("sound", SOUND)])
def test_every_case_that_was_specified_is_there_once_in_its_ball(kind, specified):
    cases = [case for case in CASES if case.kind == kind and not case.held_out]
    expected = Counter((name, *ball) for ball, names in specified.items() for name in names)
    assert Counter((case.name, case.norm, case.eps) for case in cases) == expected


def test_as_many_cases_as_the_thresholds_were_set_on_and_more_than_nine_others():
    counts = Counter((case.kind, case.held_out) for case in CASES)
    assert (counts["broken", False], counts["weak", False]) == (24, 12)
    assert counts["sound", False] >= 11
    assert counts["broken", True] >= 6
    assert counts["weak", True] >= 3


def test_a_case_is_caught_by_the_checks_of_its_fault_alone():
    expected = {name: causes for causes, names in CAUSES.items() for name in names}
    for case in CASES:
        if not case.held_out:
            assert case.causes == expected.get(case.name, SLOPES), case.name
    codes = {code for code, *_ in CHECKS}
    assert all(codes.issuperset(case.causes) and len(set(case.causes)) == len(case.causes) for case in CASES)


def test_the_figures_that_rushkit_ships_are_of_todays_checks_and_cases():
    figures = shipped_hit_rate()
    # None: they were not measured yet.
    if figures is not None:
        assert figures.checks == [code for code, *_ in CHECKS]
        assert figures.budgets == stage._budgets(0)
        told = [(row.name, row.kind, row.held_out, row.norm, row.eps, tuple(row.causes)) for row in figures.cases]
        assert told == [(case.name, case.kind, case.held_out, case.norm, case.eps, case.causes) for case in CASES]


class Hasty(Ground):
    """A ground of few images, on which every network trains for one epoch."""

    train = property(lambda self: _first(super().train, 140))
    test = property(lambda self: _first(super().test, 20))

    def trained(self, make, name, **options):
        return super().trained(make, name, **options | {"epochs": 1})


def _first(pair, count):
    return tuple(part[:count] for part in pair)


def _built(case, ground) -> list[torch.Tensor]:
    """The tensors of model and stand-in and of the network that an attack climbs, and what they answer."""
    planted = case.build(ground)
    parts = (planted.model, planted.stand_in, getattr(planted.attack, "other", None))
    tensors = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        for part in parts:
            if isinstance(part, nn.Module):
                tensors += [part(ground.test[0]), *(tensor.clone() for tensor in part.state_dict().values())]
    return tensors


def test_no_case_hangs_on_those_that_were_built_before_it(monkeypatch, untouched_global_state):
    for module in (grounds, sound):
        # What has learned nothing in an epoch is built all the same.
        monkeypatch.setattr(module, "LEARNED", -1.0)
    one, same, other = Hasty(3), Hasty(3), Hasty(4)
    built = {case.name: _built(case, one) for case in CASES}
    for case in reversed(CASES):
        again, otherwise = _built(case, same), _built(case, other)
        assert len(again) == len(built[case.name]) > 0
        assert all(map(torch.equal, again, built[case.name])), case.name
        assert not torch.equal(otherwise[0], again[0]), case.name
    # A case that is built alone, as after a stop, is the same too.
    for name in ("step eps/1000", "sharpens the batch", "diverse ensemble, ten short steps"):
        (case,) = [case for case in CASES if case.name == name]
        assert all(map(torch.equal, _built(case, Hasty(3)), built[name])), name
