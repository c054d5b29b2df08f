"""Certificates and attacks side by side: like with like, radii that can be read, and no contradiction out of noise."""

from __future__ import annotations

import csv
import re

import pytest
from scipy.stats import binom
from tiny_runs import QUIET, TINY, checkpoint_of, finetuned

from rushkit.certification.certify import certify, recertify
from rushkit.recipe.load import derive_recipe, load_recipe
from rushkit.results.logs import FurtherVotes
from rushkit.robustness.attack import attack
from rushkit.setup.start import start_run

IMAGES = 6


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A recipe under uniform noise and a tiny model of it."""
    changes = [
        *TINY,
        "backbone.name=resnet10-small",
        "finetune.epochs=8",
        "noise.scale=0.2",
        "certify.samples=500",
        f"certify.limit={IMAGES}",
        "certify.selection=50",
        f"system.runs_dir={tmp_path_factory.mktemp('contradictions') / 'runs'}",
    ]
    recipe = load_recipe("digits", changes, {})
    return recipe, checkpoint_of(finetuned(recipe, None))


@pytest.fixture(scope="module")
def counts(trained):
    """The run of a certification, and which of its images are certified to be right at l2 0.001."""
    with start_run("certify", trained[0], QUIET, parent=str(trained[1].path)) as run:
        outcomes = certify(*trained, run).to_json()["outcomes"]
    rows = zip(outcomes["predicted"], outcomes["labels"], outcomes["radius"], strict=True)
    certified = sum(predicted == label and radius >= 0.001 for predicted, label, radius in rows)
    assert certified >= 3
    return run, certified


@pytest.fixture
def beside(trained, counts, monkeypatch, tmp_path):
    """``beside({"majority": 9, "mean": 10}, "mean")``: the row of an attack after which each image is right so often.

    It certifies again from the counts, by a rule.
    """

    def make(right: dict[str, int], rule: str = "majority"):
        def final_votes(samples, attacked, clean, y, target):
            counts = {name: [min(number, attacked[name].shape[1])] * len(y) for name, number in right.items()}
            return FurtherVotes(samples=samples, right=counts, clean_right=counts)

        recipe = derive_recipe(
            trained[0],
            {
                "attack": [{"type": "pgd", "norm": "l2", "eps": 0.001, "samples": [16], "limit": IMAGES, "steps": 1}],
                "certify.norm": "l2",
                "certify.rule": rule,
                "system.runs_dir": str(tmp_path / "runs"),
            },
            {},
        )
        monkeypatch.setattr("rushkit.robustness.block.final_votes", final_votes)
        with start_run("attack", recipe, QUIET, parent=str(trained[1].path)) as run:
            attack(recipe, trained[1], run, ("strict",))
        results = recertify(recipe, counts[0].path).to_json()
        return results["empirical"][0], results["checks"]["messages"]

    return make


def test_votes_that_noise_now_and_then_decides_contradict_no_certificate(beside, counts):
    # Fewer are right than certified, yet none lost every vote: fair flips explain 3 of 10.
    row, messages = beside({"majority": 3, "mean": 3})
    assert row["certified"] == counts[1] > row["empirical"]
    assert not row["contradicts"]
    assert messages == []


def test_the_mean_rule_stands_beside_mean_votes(beside):
    row, messages = beside({"majority": 0, "mean": 10}, rule="mean")
    assert row["empirical"] == IMAGES
    assert messages == []


def test_a_contradiction_states_the_chance_that_it_is_noise(beside, counts):
    row, (message,) = beside({"majority": 0, "mean": 0})
    certified = counts[1]
    # A vote of 16 fair draws ties or loses with 0.598, all of 10 with 0.00586; of the 6 images each has a false
    # certificate with 0.001, and loses whatever happens.
    flips, false = binom(certified, 0.5981903076171875**10), binom(IMAGES, 0.001)
    chance = sum(false.pmf(k) * flips.sf(certified - k - 1) for k in range(IMAGES + 1))
    assert row["chance"] == pytest.approx(chance, rel=1e-9)
    assert f"{certified} of {certified} images that are certified at l2 0.001 lost all 10 votes" in message
    stated = float(re.search(r"with probability (1e-\d+) at most", message)[1])
    assert chance <= stated < 10 * chance


def table_of(run):
    with (run.path / "certificates.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_radius_that_was_tested_is_in_the_table_as_asked(trained):
    recipe = derive_recipe(trained[0], {"certify.norm": "l1", "certify.radii": [0.015]}, {})
    with start_run("certify", recipe, QUIET, parent=str(trained[1].path)) as run:
        results = certify(recipe, trained[1], run).to_json()
    assert (
        0
        < results["certified"][0]["count"]
        == sum(row["correct"] == "1" and float(row["radius"]) >= 0.015 for row in table_of(run))
    )
    assert {row["radius"] for row in table_of(run)} <= {"0.015", "0.000"}


def test_small_radii_have_two_digits_in_the_table_and_count_as_in_results(trained, counts):
    recipe = derive_recipe(trained[0], {"certify.norm": "linf"}, {})
    with start_run("certify", recipe, QUIET, parent="x") as run:
        results = recertify(recipe, counts[0].path, None, run).to_json()
    rows = table_of(run)
    for row, radius in zip(rows, results["outcomes"]["radius"], strict=True):
        assert 0.9 * radius <= float(row["radius"]) <= radius
    for share in results["certified"]:
        read = sum(row["correct"] == "1" and float(row["radius"]) >= share["radius"] for row in rows)
        assert read == share["count"]
