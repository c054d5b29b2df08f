"""A certification is verified: honest ones of every kind pass, and each way to forge one is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_runs import QUIET

from rushkit.certification.certify import certify, recertify
from rushkit.certification.logged_counts import COUNTS_FILE, read_counts
from rushkit.claims.certificates import verify_certification
from rushkit.claims.recount import claimed_certificates, recount
from rushkit.claims.redraw import Effort
from rushkit.claims.targets import verify_run
from rushkit.errors import DataError, UsageError
from rushkit.recipe.load import derive_recipe
from rushkit.results import dump
from rushkit.run.info import info_of
from rushkit.run.log import chained
from rushkit.run.shipped import shipped_folder
from rushkit.run.source import resolve_from
from rushkit.setup.model import recipe_of
from rushkit.setup.start import start_run

EFFORT = Effort(images=4, draws=200)
SMALL = ("certify.samples=300", "certify.selection=20", "certify.limit=4", "system.device=cpu")
LOUD = ("noise.scale=0.6",)
GAUSSIAN = ("noise.name=gaussian", "noise.std=0.4")
# A name for each kind of certificate, and the recipe that gives it.
KINDS = {
    "uniform l1": LOUD,
    "uniform linf": (
        *LOUD,
        "certify.norm=linf",
    ),
    "gaussian l2": GAUSSIAN,
    "laplace l1": ("noise.name=laplace", "noise.std=0.4"),
    "discrete gaussian l2": ("noise.name=discrete-gaussian", "noise.std=0.4"),
    "two classes": (
        *LOUD,
        "certify.two_class=true",
    ),
    "means": (*LOUD, "certify.rule=mean", "certify.samples=600"),
    "randomized": (
        *LOUD,
        "certify.bound=randomized",
    ),
    "betting": (*LOUD, "certify.bound=betting", "certify.samples=600"),
    "sequential": (
        *LOUD,
        "certify.radii=[0.01, 0.05]",
    ),
    "skipped": (*LOUD, "certify.limit=0", "certify.skip=100"),
}


@pytest.fixture(scope="module")
def model():
    return resolve_from("shipped/digits", "runs", "finetune").load()


@pytest.fixture(scope="module")
def certified(model, tmp_path_factory):
    """``certified("means")``: the folder of a certification of this kind, made once."""
    root, made = tmp_path_factory.mktemp("certified"), {}

    def folder(kind: str) -> Path:
        if kind not in made:
            changes = [*SMALL, *KINDS[kind], f"system.runs_dir={root}"]
            recipe = derive_recipe(recipe_of(model), changes)
            with start_run("certify", recipe, QUIET, parent=str(model.path)) as run:
                certify(recipe, model, run)
            made[kind] = run.path
        return made[kind]

    return folder


@pytest.fixture
def forged(certified, tmp_path):
    """``forged("uniform l1", edit)``: a copy whose lines were edited, with the chain and the results made anew."""

    def folder(kind: str, edit=lambda lines: None, results=lambda table: None) -> Path:
        copy = tmp_path / f"forged-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(certified(kind), copy)
        path = copy / "counts" / COUNTS_FILE
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            del line["chain"]
        before = json.dumps(lines)
        edit(lines)
        if json.dumps(lines) != before:
            path.write_bytes(b"".join(chained(lines)))
            claimed, recipe = claimed_certificates(copy)
            # The results as they follow from the forged counts.
            (copy / "results.json").unlink()
            seal = read_counts(copy).seal
            redone = recount(copy, claimed.with_changes(counts=seal), recipe).results
            (copy / "results.json").write_text(dump(redone))
        table = json.loads((copy / "results.json").read_text())
        results(table)
        (copy / "results.json").write_text(json.dumps(table))
        return copy

    return folder


def failing(folder: Path, model, effort: Effort = EFFORT) -> list[str]:
    found = verify_certification(folder, model, seed=7, effort=effort)
    return [check.code for check in found.checks if check.status == "fail"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_certification_is_consistent(certified, model, kind):
    found = verify_certification(certified(kind), model, seed=7, effort=EFFORT)
    assert [(check.code, check.says) for check in found.checks if check.status == "fail"] == []
    assert found.verdict == "consistent"
    assert f"{found.images} images, radii follow from the counts; " in found.sentence
    assert found.sentence.endswith("images drawn afresh agree: consistent")


def test_the_counts_of_another_run_are_those_that_it_names(certified, model):
    folder = certified("uniform l1")
    recipe = derive_recipe(claimed_certificates(folder)[1], ["certify.alpha=0.01", f"system.runs_dir={folder.parent}"])
    with start_run("certify", recipe, QUIET, parent=str(folder)) as run:
        recertify(recipe, folder, model, run)
    assert verify_certification(run.path, model, seed=7, effort=EFFORT).verdict == "consistent"


def test_without_the_model_nothing_is_drawn_and_the_verdict_is_not_final(certified):
    found = verify_certification(certified("uniform l1"), None, seed=7)
    assert found.verdict == "incomplete"
    assert {check.code: check.status for check in found.checks}["RV19"] == "pass"
    assert "nothing drawn afresh" in found.sentence


def test_a_larger_radius_than_the_counts_give_is_found(forged, model):
    def edit(table):
        radii = table["outcomes"]["radius"]
        radii[radii.index(max(radii))] *= 1.000001

    assert failing(forged("uniform l1", results=edit), model) == ["RV19"]


def test_an_abstention_that_became_a_class_is_found(forged, model):
    def edit(table):
        row = table["outcomes"]["predicted"].index(-1) if -1 in table["outcomes"]["predicted"] else 0
        table["outcomes"]["predicted"][row] = (table["outcomes"]["predicted"][row] + 1) % 10

    assert failing(forged("uniform linf", results=edit), model)[0] in ("RV16", "RV19")


def test_a_smaller_alpha_than_was_used_is_found(forged, model):
    def edit(table):
        table["samples"] = 100_000

    assert failing(forged("uniform l1", results=edit), model) == ["RV19"]


def test_votes_that_do_not_add_up_are_found(forged, model, certified, tmp_path):
    copy = tmp_path / "torn"
    shutil.copytree(certified("uniform l1"), copy)
    path = copy / "counts" / COUNTS_FILE
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["votes"][0][0] += 1
    for line in lines:
        del line["chain"]
    path.write_bytes(b"".join(chained(lines)))
    found = verify_certification(copy, model, seed=7)
    assert [check.code for check in found.checks if check.status == "fail"] == ["RV16"]
    assert "votes of an image are not as many as its draws" in found.checks[0].says
    assert found.verdict == "inconsistent"


def test_a_log_that_was_cut_is_found(certified, model, tmp_path):
    copy = tmp_path / "cut"
    shutil.copytree(certified("uniform l1"), copy)
    path = copy / "counts" / COUNTS_FILE
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert failing(copy, model) == ["RV16"]


def all_for_one_class(lines):
    """Every draw that estimates votes for the class that the selection chose."""
    chosen = {}
    for line in lines[1:]:
        if line["part"] == "selection":
            rows = zip(line["images"], line["votes"], strict=True)
            chosen |= {image: max(range(10), key=row.__getitem__) for image, row in rows}
        else:
            for image, row in zip(line["images"], line["votes"], strict=True):
                total = sum(row)
                row[:] = [total * (label == chosen[image]) for label in range(10)]


@pytest.mark.parametrize("kind", ["uniform l1", "gaussian l2", "two classes"])
def test_counts_that_are_too_good_are_found_by_fresh_draws(forged, model, kind):
    assert failing(forged(kind, all_for_one_class), model, Effort(images=4, draws=400)) == ["RV20"]


def test_other_weights_are_found_by_their_hash_and_by_fresh_draws(certified, model):
    from dataclasses import replace

    tensors = {name: tensor.clone() for name, tensor in model.tensors.items()}
    tensors["head.weight"] *= -1
    other = replace(model, tensors=tensors, hash="0" * 64)
    assert failing(certified("uniform l1"), other) == ["RV07", "RV20"]


def test_swapped_labels_are_found_by_the_data_set(forged, model):
    def edit(lines):
        for line in lines[1:]:
            if line["part"] == "selection":
                line["labels"][0] = (line["labels"][0] + 1) % 10

    assert failing(forged("uniform l1", edit), model) == ["RV06"]


def test_other_images_than_the_rule_takes_are_found(forged, model):
    def edit(lines):
        lines[0]["subject"]["images"] = "0" * 32

    assert failing(forged("uniform l1", edit), model) == ["RV04"]


def test_one_count_for_all_images_is_implausible(forged, model):
    def edit(lines):
        all_for_one_class(lines)
        for line in lines[1:]:
            if line["part"] == "estimation" and line["start"] == 0:
                for row in line["votes"]:
                    top = row.index(max(row))
                    row[top], row[(top + 1) % 10] = row[top] - 20, 20

    folder = forged("uniform l1", edit)
    # Four images are few for this test: the level is met by 300 draws of a skipped split.
    assert "RV20" in failing(folder, model, Effort(images=4, draws=400))


def test_a_run_of_something_else_is_refused(tmp_path):
    with pytest.raises(UsageError, match="has no results of a certification"):
        verify_certification(tmp_path, None, seed=1)


@pytest.mark.parametrize("first", [b"", b"[]\n", b'{"subject": {"of": 99999999999}}\n', b"\x00" * 40])
def test_a_log_of_nonsense_is_found_without_reading_it(certified, model, tmp_path, first):
    copy = tmp_path / "nonsense"
    shutil.copytree(certified("uniform l1"), copy)
    (copy / "counts" / COUNTS_FILE).write_bytes(first)
    assert failing(copy, model) == ["RV16"]


def test_results_that_do_not_add_up_are_called_so(certified, tmp_path):
    """A share that an editor raised is no share of its images, so that the file is read as damaged."""
    run = tmp_path / certified("skipped").name
    shutil.copytree(certified("skipped"), run)
    table = json.loads((run / "results.json").read_text())
    table["certified"][0]["accuracy"] = table["certified"][0]["high"] = 1.0
    table["certified"][0]["count"] += 1
    (run / "results.json").write_text(json.dumps(table))
    with pytest.raises(DataError, match=r"results\.json is damaged"):
        verify_run(info_of(run))


def test_results_of_an_attack_that_do_not_add_up_are_called_so(tmp_path):
    (shipped,) = shipped_folder().glob("*-attack-digits-*")
    run = tmp_path / shipped.name
    shutil.copytree(shipped, run)
    text = (run / "results.json").read_text()
    (run / "results.json").write_text(text.replace('"accuracy":', '"accuracy":1', 1))
    with pytest.raises(DataError, match=r"results\.json is damaged"):
        verify_run(info_of(run))
