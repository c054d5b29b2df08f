"""An option or a key that is given twice is refused: of two values one would be dropped in silence."""

from __future__ import annotations

import pytest
from commands import TINY, sets

START = ("--recipe", "digits", *sets(*TINY))

REPEATED = {
    "attack --eps": ["attack", "--eps", "8/255", "--eps", "16/255"],
    "attack --eps=": ["attack", "--eps=8/255", "--eps=8/255"],
    "attack --type": ["attack", "--type", "pgd", "--eps", "8/255", "--type", "fgsm"],
    "certify --alpha": ["certify", "--alpha", "0.1", "--alpha", "0.001"],
    "certify --norm": ["certify", "--norm", "l1", "--norm", "l2"],
    "evaluate --samples": ["evaluate", "--samples", "1", "--samples", "64"],
    "finetune --from": ["finetune", "--from", "digits", "--from", "digits"],
    "pretrain --every": ["pretrain", *START, "--every", "1", "--every", "2"],
    "report --out": ["report", "--out", "a", "--out", "b"],
    "runs list --runs-dir": ["runs", "list", "--runs-dir", "a", "--runs-dir", "b"],
}
BESIDE_A_FLAG = {
    "attack --eps": ["attack", "--eps", "8/255", "--set", "attack.0.eps=0.5"],
    "attack --type": ["attack", "--type", "pgd", "--set", "attack.0.type=fgsm"],
    "attack --samples": ["attack", "--samples", "1", "--set", 'attack=[{type="pgd", samples=[4]}]'],
    "certify --alpha": ["certify", "--alpha", "0.1", "--set", "certify.alpha=0.2"],
    "certify --radius": ["certify", "--radius", "0.1", "--set", "certify.radii=[0.2]"],
    "evaluate --samples": ["evaluate", "--samples", "1", "--set", "evaluate={samples=[4]}"],
    "pretrain --every": ["pretrain", *START, "--every", "1", "--set", "pretrain.save_every=2"],
    "finetune --keep": ["finetune", "--keep", "3", "--set", "finetune.keep=4"],
    "audit --eps": ["audit", "--eps", "8/255", "--set", "attack.0.eps=0.5"],
    # These have a value that is not given, and it wins.
    "probe --eps": ["probe", "--set", "attack.0.eps=0.5"],
    "predict --samples": ["predict", "a.png", "--set", "certify.samples=200"],
}
TWICE_SET = {
    "one key": ["pretrain.epochs=1", "pretrain.epochs=2"],
    "a key and its table": ["noise.scale=0.2", 'noise={name="gaussian", std=0.5}'],
    "a table and its key": ['noise={name="uniform", scale=0.5}', "noise.scale=0.2"],
    "two keys of which one holds": ["noise.scale=0.2", "noise.std=0.5"],
}


@pytest.mark.parametrize("case", REPEATED)
def test_an_option_with_one_value_is_taken_once(fails, runs, case):
    said = fails(2, *REPEATED[case])
    assert f"error: {case.split()[-1].removesuffix('=')} is given 2 times" in said.err


@pytest.mark.parametrize("case", BESIDE_A_FLAG)
def test_a_key_beside_the_flag_for_it_is_refused(fails, runs, case):
    said = fails(2, *BESIDE_A_FLAG[case])
    assert f"error: {case.split()[-1]} sets " in said.err
    assert "and so does --set" in said.err


@pytest.mark.parametrize("case", TWICE_SET)
def test_a_change_that_undoes_another_is_refused(fails, case):
    first, second = TWICE_SET[case]
    said = fails(2, "recipe", "check", "digits", "--set", first, "--set", second)
    assert f"error: --set {second} undoes --set {first}" in said.err
