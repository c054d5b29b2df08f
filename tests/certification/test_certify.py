"""The stage: counts that survive a kill, radii redone from them, what is reported, and what attacks say beside it."""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from printed import validator_of
from tiny_runs import QUIET, TINY, checkpoint_of, finetuned

from rushkit.certificates import MeanSums, Randomized, certify_counts, certify_means
from rushkit.certification import draws
from rushkit.certification.certify import certify, recertify
from rushkit.certification.counts import gather_counts
from rushkit.certification.draws import image_uniform
from rushkit.certification.logged_counts import COUNTS_FILE, read_counts
from rushkit.errors import RushkitError, UsageError
from rushkit.noises.split import Split
from rushkit.recipe.load import derive_recipe, load_recipe
from rushkit.report.pictures.certificates import certification_chart
from rushkit.report.pictures.of_runs import draw_certification
from rushkit.results import read
from rushkit.robustness.attack import attack
from rushkit.run.folder import Run
from rushkit.run.log import chained
from rushkit.run.speaker import Speaker
from rushkit.setup import components
from rushkit.setup.model import load_classifier
from rushkit.setup.start import machine_of, start_run

CHANGES = (
    *TINY,
    "backbone.name=resnet10-small",
    "finetune.epochs=8",
    "noise.scale=0.2",
    "certify.samples=500",
    "certify.limit=6",
    "certify.selection=50",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A recipe under uniform noise and a tiny model of it."""
    runs_dir = tmp_path_factory.mktemp("certify") / "runs"
    recipe = load_recipe("digits", [*CHANGES, f"system.runs_dir={runs_dir}"], {})
    return recipe, checkpoint_of(finetuned(recipe, None))


def certified(recipe, checkpoint, speaker=QUIET):
    with start_run("certify", recipe, speaker, parent=str(checkpoint.path)) as run:
        results = certify(recipe, checkpoint, run).to_json()
    return run, results


@pytest.fixture(scope="module")
def whole(trained):
    """One certification that nothing disturbed."""
    return certified(*trained)


def lines_of(run: Run):
    return [
        {key: value for key, value in json.loads(line).items() if key not in ("seconds", "chain")}
        for line in (run.path / "counts" / COUNTS_FILE).read_text().splitlines()
    ]


def stopped_at(recipe, checkpoint, text: bytes) -> Run:
    """A run whose counts are what a kill left of them."""
    with start_run("certify", recipe, QUIET, parent=str(checkpoint.path)) as run:
        (run.subfolder("counts") / COUNTS_FILE).write_bytes(text)
    return run


class TestKilled:
    def test_at_any_byte_it_ends_with_the_same_counts(self, trained, whole):
        text = (whole[0].path / "counts" / COUNTS_FILE).read_bytes()
        ends = [index + 1 for index, byte in enumerate(text) if byte == ord("\n")]
        assert len(ends) >= 5
        # Within the first line, at both sides of an end of line, in the middle of a line, and after all.
        for offset in sorted(
            {0, 10, *ends[:4], *(end - 1 for end in ends[:4]), ends[2] + 30, len(text) - 20, len(text)}
        ):
            run = stopped_at(*trained, text[:offset])
            with Run.open(run.path, QUIET) as again:
                results = certify(*trained, again).to_json()
            assert lines_of(run) == lines_of(whole[0])
            assert results["outcomes"] == whole[1]["outcomes"]

    def test_by_an_error_in_the_middle_it_goes_on(self, trained, whole, monkeypatch):
        calls, count_votes = 0, draws.count_votes

        def dies(*arguments):
            nonlocal calls
            calls += 1
            if calls == 3:
                raise MemoryError("no more")
            return count_votes(*arguments)

        monkeypatch.setattr("rushkit.certification.draws.count_votes", dies)
        with pytest.raises(MemoryError), start_run("certify", trained[0], QUIET, parent="x") as run:
            certify(*trained, run)
        assert len(lines_of(run)) == 3
        monkeypatch.undo()
        with Run.open(run.path, QUIET) as again:
            certify(*trained, again)
        assert lines_of(run) == lines_of(whole[0])


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("noise.scale", 0.3, "noise"),
        ("system.seed", 5, "seed"),
        ("data.limit", 40, "data"),
        ("certify.skip", 2, "skip"),
    ],
)
def test_counts_of_something_else_are_refused(trained, whole, key, value, named):
    recipe = derive_recipe(trained[0], {"system.runs_dir": trained[0].system.runs_dir, key: value}, {})
    with pytest.raises(UsageError, match=f"of another {named}"):
        recertify(recipe, whole[0].path)
    with pytest.raises(RushkitError, match=f"something else: .*{named}"), Run.open(whole[0].path, QUIET) as run:
        certify(recipe, trained[1], run)


def test_counts_of_another_model_are_refused(trained, whole):
    shorter = derive_recipe(trained[0], ["finetune.epochs=1", f"system.runs_dir={runs(trained)}"], {})
    other = checkpoint_of(finetuned(shorter, None))
    with pytest.raises(UsageError, match="of another model"):
        recertify(trained[0], whole[0].path, other)
    with pytest.raises(RushkitError, match="something else: model"), Run.open(whole[0].path, QUIET) as run:
        certify(trained[0], other, run)


class TestFromCounts:
    def redo(self, trained, whole, **changes):
        settings = trained[0].certify.model_copy(update=changes)
        return recertify(trained[0].model_copy(update={"certify": settings}), whole[0].path).to_json()

    def test_the_same_settings_give_the_same_results(self, trained, whole):
        found = self.redo(trained, whole)
        differ = {key for key in found if found[key] != whole[1][key]}
        assert differ == {"source", "run"}

    def test_another_alpha_norm_and_bound_are_what_the_counts_say(self, trained, whole):
        counts, _ = gather_counts(read_counts(whole[0].path).lines, 500)
        noise = components.build_noise(trained[0])
        for norm, alpha, bound, two_class in (
            ("l1", 0.05, "clopper-pearson", False),
            ("linf", 0.001, "betting", False),
            ("l1", 0.01, "clopper-pearson", True),
        ):
            found = self.redo(trained, whole, norm=norm, alpha=alpha, bound=bound, two_class=two_class)
            expected = certify_counts(counts.selection, counts.votes, noise, norm, 192, alpha, bound, two_class)
            assert found["outcomes"]["radius"] == expected.radius.tolist()
            assert found["outcomes"]["predicted"] == expected.predicted.tolist()

    def test_the_randomized_bound_uses_the_draws_that_were_made_before_the_counts(self, trained, whole):
        selected = [line for line in read_counts(whole[0].path).lines if line.part == "selection"]
        images = [image for line in selected for image in line.images]
        uniforms = [uniform for line in selected for uniform in line.uniforms]
        assert uniforms == [image_uniform(trained[0].system.seed, image) for image in images]
        assert len({*uniforms, *(image_uniform(trained[0].system.seed + 1, image) for image in images)}) == 12
        counts, _ = gather_counts(read_counts(whole[0].path).lines, 500)
        noise = components.build_noise(trained[0])
        for two_class in (False, True):
            found = self.redo(trained, whole, bound="randomized", norm="l1", two_class=two_class)
            bound = Randomized(counts.uniforms)
            expected = certify_counts(counts.selection, counts.votes, noise, "l1", 192, 0.001, bound, two_class)
            assert found["outcomes"]["radius"] == expected.radius.tolist()
            assert max(found["outcomes"]["radius"]) <= found["reach"]
            assert any("uniform draw" in text for text in found["assumptions"])

    def test_a_run_with_the_randomized_bound_is_that_of_the_counts_of_another(self, trained, whole):
        recipe = derive_recipe(trained[0], ["certify.bound=randomized", f"system.runs_dir={runs(trained)}"], {})
        run, fresh = certified(recipe, trained[1])
        assert fresh["outcomes"] == self.redo(trained, whole, bound="randomized")["outcomes"]
        assert lines_of(run) == lines_of(whole[0])

    def test_counts_of_another_version_are_named(self, trained, whole):
        first, *lines = (whole[0].path / "counts" / COUNTS_FILE).read_text().splitlines()
        tables = [{key: value for key, value in json.loads(line).items() if key != "chain"} for line in lines]
        tables = [{key: value for key, value in table.items() if key != "uniforms"} for table in tables]
        subject = {key: value for key, value in json.loads(first).items() if key != "chain"}
        run = stopped_at(*trained, b"".join(chained([subject, *tables])))
        with pytest.raises(RushkitError, match="another version of rushkit wrote it; certify anew"):
            self.redo(trained, (run,))

    def test_the_mean_rule_is_certified_from_confidences(self, trained, whole):
        counts, _ = gather_counts(read_counts(whole[0].path).lines, 500)
        found = self.redo(trained, whole, rule="mean", norm="l1")
        sums = MeanSums(counts.selection_scores.argmax(axis=1), counts.scores, counts.squares, 500)
        noise = components.build_noise(trained[0])
        expected = certify_means(sums, noise, "l1", 192, 0.001)
        assert found["outcomes"]["radius"] == expected.radius.tolist()
        assert found["bound"] == "empirical-bernstein"

    def test_fewer_draws_are_the_first_of_them(self, trained, whole):
        found = self.redo(trained, whole, samples=200)
        fresh = certified(
            derive_recipe(trained[0], ["certify.samples=200", f"system.runs_dir={runs(trained)}"], {}), trained[1]
        )
        assert found["outcomes"] == fresh[1]["outcomes"]

    @pytest.mark.parametrize("samples", [300, 501, 100_000])
    def test_a_number_of_draws_that_was_not_logged_is_refused(self, trained, whole, samples):
        with pytest.raises(UsageError, match=f"no {samples} draws") as error:
            self.redo(trained, whole, samples=samples)
        assert "100, 200, 500" in error.value.hint

    def test_images_without_all_their_draws_are_left_out(self, trained, whole):
        text = (whole[0].path / "counts" / COUNTS_FILE).read_bytes()
        run = stopped_at(*trained, text[: text.index(b'"stop": 500')])
        assert self.redo(trained, (run,), samples=200)["images"] == 6
        with pytest.raises(UsageError, match="no image has all 500 draws"):
            self.redo(trained, (run,))
        assert (run.path / "counts" / COUNTS_FILE).read_bytes() == text[: text.index(b'"stop": 500')]

    def test_needs_neither_network_nor_images(self, trained, whole, monkeypatch):
        for name in ("certification.certify.Subject", "setup.networks.build_network"):
            monkeypatch.setattr(f"rushkit.{name}", None)
        monkeypatch.setattr("rushkit.setup.components.load_split", None)
        assert self.redo(trained, whole)["images"] == 6


def runs(trained):
    return trained[0].system.runs_dir


class TestReport:
    def test_the_table_has_the_columns_of_the_fields_scripts_and_radii_rounded_down(self, whole):
        run, results = whole
        with (run.path / "certificates.tsv").open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        assert list(rows[0]) == ["idx", "label", "predict", "radius", "correct", "time"]
        outcomes = results["outcomes"]
        assert [int(row["idx"]) for row in rows] == outcomes["images"] == sorted(outcomes["images"])
        for row, label, predicted, radius in zip(
            rows, outcomes["labels"], outcomes["predicted"], outcomes["radius"], strict=True
        ):
            assert (int(row["label"]), int(row["predict"])) == (label, predicted)
            assert int(row["correct"]) == (label == predicted)
            assert 0 <= Decimal(radius) - Decimal(row["radius"]) < Decimal("0.001")
            hours, minutes, seconds = row["time"].split(":")
            assert timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds)) >= timedelta(0)

    def test_accuracies_are_those_of_the_images(self, whole):
        results = whole[1]
        outcomes = {key: np.array(values) for key, values in results["outcomes"].items()}
        right = outcomes["predicted"] == outcomes["labels"]
        assert results["images"] == 6
        for row in results["certified"]:
            assert row["count"] == np.sum(right & (outcomes["radius"] >= row["radius"]))
            assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
        assert results["average_radius"] == pytest.approx(np.mean(outcomes["radius"] * right))
        assert results["accuracy"]["count"] == right.sum()
        assert results["smoothed"]["count"] >= right.sum()
        assert results["draws"] == 6 * 550

    def test_says_what_is_not_covered(self, trained):
        recipe = derive_recipe(
            trained[0], ["noise.scale=0.3", "certify.norm=l1", f"system.runs_dir={runs(trained)}"], {}
        )
        _, results = certified(recipe, trained[1])
        assert "This noise certifies l1 0.3 at most." in results["covers"]
        # 192 pixel values times 8/255.
        assert "Not covered: l-inf 8/255" in results["covers"]
        assert "l1 norm up to 6.024" in results["covers"]
        assert results["limit"] == pytest.approx(0.3)
        assert any("Voráček" in text and "discrete-gaussian" in text for text in results["assumptions"])
        assert "uniform scale 0.2" in results["warnings"][0]
        assert "uniform scale 0.3" in results["warnings"][0]

    def test_the_curve_falls_and_its_files_are_the_same_each_time(self, whole, tmp_path):
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            files = draw_certification(read(whole[0].path), tmp_path / name)
            assert [file.name for file in files] == ["certified.png", "certified.svg"]
        for kind in ("png", "svg"):
            first, second = ((tmp_path / name / f"certified.{kind}").read_bytes() for name in ("first", "second"))
            assert first == second
            assert len(first) > 5000
        heights = [y for _, y in certification_chart(read(whole[0].path)).series[0].points]
        assert heights[0] == pytest.approx(100 * whole[1]["accuracy"]["value"])
        assert all(after <= before for before, after in pairwise(heights))

    def test_skip_takes_every_so_manieth_image_and_limit_the_images_of_an_attack(self, trained):
        recipe = derive_recipe(
            trained[0], ["certify.skip=7", "certify.limit=0", f"system.runs_dir={runs(trained)}"], {}
        )
        _, results = certified(recipe, trained[1])
        assert results["outcomes"]["images"] == [0, 7, 14, 21, 28, 35, 42]


def test_sequential_tests_report_the_radii_that_were_asked(trained):
    recipe = derive_recipe(
        trained[0],
        ["certify.radii=[0.0, 0.05]", "certify.norm=l1", "certify.samples=2000", f"system.runs_dir={runs(trained)}"],
        {},
    )
    run, results = certified(recipe, trained[1])
    assert [row["radius"] for row in results["certified"]] == [0.0, 0.05]
    assert (results["mode"], results["bound"]) == ("sequential", "one-sided-betting")
    assert set(results["outcomes"]["radius"]) <= {0.0, 0.05}
    assert results["draws_used"]["most"] <= 2000
    assert len(results["draws_used"]["images"]) == 6
    # The same again from the counts, and under a laxer alpha no less.
    same = recertify(recipe, run.path).to_json()
    assert same["outcomes"] == results["outcomes"]
    laxer = recertify(derive_recipe(recipe, ["certify.alpha=0.1", f"system.runs_dir={runs(trained)}"], {}), run.path)
    laxer = laxer.to_json()
    assert laxer["certified"][1]["count"] >= results["certified"][1]["count"]
    assert laxer["draws_used"]["mean"] <= results["draws_used"]["mean"]
    assert certification_chart(read(run.path)).series[0].kind == "points"


def test_every_line_of_sequential_counts_fits_its_schema(trained):
    recipe = derive_recipe(
        trained[0],
        ["certify.radii=[0.05]", "certify.norm=l1", "certify.samples=40", f"system.runs_dir={runs(trained)}"],
        {},
    )
    assert_lines_fit(certified(recipe, trained[1])[0], {"selection", "round"})


def test_every_line_of_fixed_counts_fits_its_schema(whole):
    assert_lines_fit(whole[0], {"selection", "estimation"})


def assert_lines_fit(run, parts):
    lines = [json.loads(line) for line in (run.path / "counts" / COUNTS_FILE).read_text().splitlines()]
    for line in lines:
        validator_of("certify.jsonl").validate(line)
    assert {line["part"] for line in lines[1:]} == parts


def test_counts_of_tests_that_looked_elsewhere_are_refused(trained):
    recipe = derive_recipe(
        trained[0],
        ["certify.radii=[0.05]", "certify.norm=l1", "certify.samples=40", f"system.runs_dir={runs(trained)}"],
        {},
    )
    run, _ = certified(recipe, trained[1])
    path = run.path / "counts" / COUNTS_FILE
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["subject"]["looks"] = [40]
    path.write_bytes(b"".join(chained([{key: line[key] for key in line if key != "chain"} for line in lines])))
    with pytest.raises(
        UsageError, match=r"evaluated after 40 draws, and would be evaluated after 7, 9, 12, 15, \.\.\., 40"
    ):
        recertify(recipe, run.path)
    with pytest.raises(RushkitError, match="something else: looks"), Run.open(run.path, QUIET) as again:
        certify(recipe, trained[1], again)


@pytest.fixture(scope="module")
def deterministic(trained):
    recipe = derive_recipe(trained[0], ["noise.name=split", "noise.scale=0.05", f"system.runs_dir={runs(trained)}"], {})
    recipe = recipe.model_copy(update={"certify": recipe.certify.model_copy(update={"norm": "l1"})})
    return recipe, *certified(recipe, trained[1])


class TestSplits:
    def test_leave_nothing_to_chance(self, deterministic):
        recipe, run, results = deterministic
        noise = components.build_noise(recipe)
        assert (results["mode"], results["alpha"], results["abstained"]["count"]) == ("splits", 0.0, 0)
        counts, _ = gather_counts(read_counts(run.path).lines, 0)
        assert counts.selection.sum(axis=1).tolist() == [noise.num_splits] * 6
        assert results["outcomes"]["radius"] == noise.deterministic_radius(counts.selection).tolist()
        assert max(results["outcomes"]["radius"]) > 0
        assert any("no chance" in text for text in results["assumptions"])

    def test_every_line_of_their_counts_fits_its_schema(self, deterministic):
        assert_lines_fit(deterministic[1], {"splits"})

    def test_hold_against_random_8_bit_perturbations_within_the_radius(self, deterministic, trained):
        recipe, _, results = deterministic
        noise, machine = Split(scale=0.05), machine_of(recipe)
        classifier = load_classifier(trained[1], machine)
        split = components.load_split(recipe, components.build_dataset(recipe), "test")
        outcomes, chance = results["outcomes"], np.random.default_rng(0)
        for index, predicted, radius in zip(outcomes["images"], outcomes["predicted"], outcomes["radius"], strict=True):
            budget = round(radius * 255)
            for _ in range(10):
                pixels = split.images[index].clone().flatten().int()
                # Whole grey levels on random pixels, as many as the radius allows.
                for place in chance.integers(0, len(pixels), budget):
                    pixels[place] += int(chance.choice([-1, 1]))
                near = pixels.clamp(0, 255).view(1, *split.images.shape[1:]).float() / 255
                logits = classifier.network(noise.exhaustive(near)[:, 0])
                assert int(torch.bincount(logits.argmax(dim=1), minlength=10).argmax()) == predicted

    def test_their_counts_give_l2_as_well(self, deterministic):
        recipe, run, results = deterministic
        settings = recipe.certify.model_copy(update={"norm": "l2"})
        found = recertify(recipe.model_copy(update={"certify": settings}), run.path).to_json()
        np.testing.assert_allclose(
            np.array(found["outcomes"]["radius"]) * np.sqrt(192), results["outcomes"]["radius"], rtol=1e-12
        )


@pytest.fixture(scope="module")
def attacked(trained):
    changes = {
        "attack": [{"type": "pgd", "norm": "l1", "eps": 0.002, "samples": [16], "limit": 8, "steps": 2}],
        "system.runs_dir": runs(trained),
    }
    recipe = derive_recipe(trained[0], changes, {})
    with start_run("attack", recipe, QUIET, parent=str(trained[1].path)) as run:
        attack(recipe, trained[1], run, ("paper",))
    return run


class TestBesideAttacks:
    def test_both_are_shown_on_the_images_that_both_looked_at(self, trained, whole, attacked):
        (row,) = recertify(trained[0], whole[0].path).to_json()["empirical"]
        outcomes = json.loads((attacked.path / "results.json").read_text())["attacks"][0]["outcomes"]
        assert (row["norm"], row["eps"], row["images"]) == ("l1", 0.002, 6)
        # The first six of the eight images under attack are the certified ones: smaller limits are subsets.
        assert row["empirical"] == sum(outcomes["right"]["majority"][:6])
        labels = dict(zip(whole[1]["outcomes"]["images"], whole[1]["outcomes"]["labels"], strict=True))
        assert sorted(labels.values()) == sorted(outcomes["labels"][:6])
        assert row["certified"] <= row["empirical"]
        assert not row["contradicts"]

    def test_a_contradiction_is_said_loudly(self, trained, whole, attacked, capsys):
        path = attacked.path / "results.json"
        honest = path.read_text()
        results = json.loads(honest)
        row = results["attacks"][0]
        row["outcomes"]["right"] = {"majority": [0] * 8, "mean": [0] * 8}
        row["outcomes"] |= {"taken_for": {}, "clean_taken_for": {}}
        row["rules"] = {rule: {**row["rules"][rule], "accuracy": 0.0, "low": 0.0} for rule in ("majority", "mean")}
        row |= {"votes": 10, "eps": 1e-6}
        recipe_text = (attacked.path / "recipe.toml").read_text()
        try:
            path.write_text(json.dumps(results))
            (attacked.path / "recipe.toml").write_text(recipe_text.replace("eps = 0.002", "eps = 1e-6"))
            with start_run("certify", trained[0], Speaker(rank=0), parent="x") as run:
                found = recertify(trained[0], whole[0].path, None, run).to_json()
        finally:
            path.write_text(honest)
            (attacked.path / "recipe.toml").write_text(recipe_text)
        assert found["accuracy"]["count"] > 0
        assert not found["checks"]["agree_with_attacks"]
        assert "wrong" in capsys.readouterr().err
        assert found["empirical"][0]["broken"]

    def test_attacks_under_another_noise_or_norm_are_not_shown(self, trained, whole, attacked):
        settings = trained[0].certify.model_copy(update={"norm": "l2"})
        assert not recertify(trained[0].model_copy(update={"certify": settings}), whole[0].path).empirical


@pytest.mark.parametrize(
    ("skip", "words"), [(1, "all"), (2, "every 2nd"), (3, "every 3rd"), (11, "every 11th"), (20, "every 20th")]
)
def test_which_images_are_certified_is_said_in_english(trained, capsys, skip, words):
    changes = ["certify.samples=20", "certify.selection=5", "certify.limit=1", f"system.runs_dir={runs(trained)}"]
    certified(derive_recipe(trained[0], [*changes, f"certify.skip={skip}"], {}), trained[1], Speaker(rank=0))
    assert f"({words}, limited)" in capsys.readouterr().out


def test_one_voice_for_the_path_of_results(whole):
    run, results = whole
    stored = json.loads((run.path / "results.json").read_text())
    assert stored | {"run": str(run.path)} == json.loads(json.dumps(results))
    assert Path(stored["source"]).exists()
