"""What charts show beside the tables: accuracy against passes, p_A, classes; and all of them as files for a paper."""

from __future__ import annotations

import csv
import re

import pytest
from synthetic_runs import EPS, RULES, attack_row, attacks, certification, evaluation

import rushkit
from rushkit.errors import RushkitError
from rushkit.report.against_passes import against_passes
from rushkit.report.classes import classes_of_matrix, classes_under_attack
from rushkit.report.content import build_report
from rushkit.report.curves import top_probability
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.pictures.attacks import against_eps
from rushkit.report.pictures.attacks import against_passes as passes_charts
from rushkit.report.pictures.certificates import probabilities
from rushkit.report.pictures.classes import per_class
from rushkit.report.write import write_report
from rushkit.results.adaptive import OwnAttackUsed
from rushkit.results.attacks import Candidate
from rushkit.results.rounds import AttackRound
from rushkit.statistics import wilson_interval


def climb(steps, draws, doubling):
    return AttackRound(
        method="falling",
        loss="nll",
        steps=steps,
        draws=draws,
        most_draws=64,
        start="random",
        doubling=doubling,
        momentum=0.75,
        step_size=2.0,
        offered=[steps],
    )


def cascade(first_broken, eps=EPS, **facts):
    """A strict attack of two climbs, of 10 steps of 8 draws and 20 of 16."""
    row = attack_row(
        [10 if number == -1 else 0 for number in first_broken],
        eps=eps,
        rounds=[climb(10, 8, 1), climb(20, 16, 2)],
        **facts,
    )
    broken = {rule: list(first_broken) for rule in RULES}
    return row.with_changes(outcomes=row.outcomes.with_changes(first_broken=broken))


def models_of(*runs_of_models):
    return build_report([gather(model) for model in runs_of_models]).models


def points_of(row):
    series = against_passes("run", "cifar10", {}, row)
    return [(point.passes, round(10 * point.accuracy)) for point in series.points]


class TestPasses:
    def test_after_each_climb_stands_what_it_and_those_before_have_not_broken(self):
        row = cascade([0, 1, 1, 2, -1, -1, -1, -1, -1, -1])
        assert points_of(row) == [(0, 9), (160, 7), (800, 6)]

    def test_what_a_smaller_ball_broke_is_broken_with_the_first_climb(self):
        assert points_of(cascade([-2, 1, *[-1] * 8])) == [(0, 10), (160, 8), (800, 8)]

    def test_what_fell_to_own_attacks_stands_since_their_passes_are_not_known(self):
        row = cascade([-1] * 10)
        candidates = [*row.candidates, Candidate(label="mine.py:attack", options={})]
        row = row.with_changes(candidates=candidates, own=[OwnAttackUsed(code="mine.py:attack")])
        outcomes = row.outcomes.with_changes(first_broken={rule: [3, *[-1] * 9] for rule in RULES})
        assert points_of(row.with_changes(outcomes=outcomes)) == [(0, 10), (160, 10), (800, 10)]

    def test_intervals_are_wilsons(self):
        series = against_passes("run", "cifar10", {}, cascade([0, *[-1] * 9]))
        assert (series.points[0].low, series.points[0].high) == pytest.approx(wilson_interval(9, 10))

    def test_an_attack_without_rounds_has_none(self):
        assert against_passes("run", "cifar10", {}, attack_row([10])) is None

    def test_eps_are_lines_of_one_model_and_charts_of_several(self, runs):
        model, other = runs.model(), runs.model(name="other")
        for one in (model, other):
            runs.add("attack", one, attacks(cascade([-1, 1]), cascade([1, 1], eps=2 * EPS)))
        (chart,) = passes_charts(models_of(model))
        # What a panel that chose the worst versions saw may be less than what is left.
        assert "is no bound" in chart.caption
        assert "upper bound" not in chart.caption
        assert [one.name for one in chart.series] == ["l-inf 8/255", "l-inf 16/255"]
        charts = passes_charts(models_of(model, other))
        assert [[one.name for one in chart.series] for chart in charts] == [["cifar10", "other"]] * 2
        assert len({chart.title for chart in charts}) == 2


class TestTopProbability:
    def certified(self, **facts):
        results = certification([0.1, 0.2, 0.0, 0.0], [True, True, False, False], **facts)
        return results.with_changes(outcomes=results.outcomes.with_changes(p_lower=[0.7, 0.9, 0.6, 0.4]))

    def test_right_images_and_others_are_shares_of_all_that_have_at_least_this_probability(self):
        found = top_probability(self.certified())
        assert [found.right[place] for place in (0, 1, -1)] == [(0.0, 0.5), (0.7, 0.5), (0.9, 0.0)]
        assert [found.other[place] for place in (0, 1, -1)] == [(0.0, 0.5), (0.4, 0.5), (0.6, 0.0)]
        assert not found.exact

    def test_of_thousands_of_images_there_are_a_hundred_points(self):
        results = certification([0.1] * 3000, [True] * 3000)
        many = [0.5 + index / 6000 for index in range(3000)]
        found = top_probability(results.with_changes(outcomes=results.outcomes.with_changes(p_lower=many)))
        assert len(found.right) == 102
        assert found.other == ()

    def test_sequential_tests_do_not_measure_it(self):
        assert top_probability(certification([0.1], [True], mode="sequential")) is None

    def test_right_ones_are_solid_the_others_dashed_and_the_legend_has_each_model_once(self, runs):
        models = [runs.model(), runs.model(name="other")]
        for one, p in zip(models, (0.7, 0.8), strict=True):
            results = self.certified()
            p_lower = [p, 0.9, 0.6, 0.4]
            runs.add("certify", one, results.with_changes(outcomes=results.outcomes.with_changes(p_lower=p_lower)))
        (chart,) = probabilities(models_of(*models))
        assert [one.dashed for one in chart.series] == [False, True, False, True]
        assert [one.in_legend for one in chart.legend] == ["cifar10", "other"]
        assert "cifar10, right: 50.0 % of the images are above 0.5" in chart.label


class TestClasses:
    def test_clean_and_attacked_are_of_the_same_images_and_votes(self):
        row = attack_row([10, 0, 5, 10], labels=[0, 0, 1, 1])
        first, second = classes_under_attack(row, ["cat", "dog"])
        assert (first.name, first.images, first.clean.accuracy, first.attacked.accuracy) == ("cat", 2, 1.0, 0.5)
        assert (second.name, second.attacked.accuracy) == ("dog", 0.75)
        assert (first.attacked.low, first.attacked.high) == pytest.approx(wilson_interval(1, 2))

    def test_a_class_without_a_name_is_called_by_its_number_and_one_without_images_is_left_out(self):
        (only,) = classes_under_attack(attack_row([10], labels=[10**15]), ["cat"])
        assert only.name == str(10**15)
        assert [row.name for row in classes_of_matrix([[3, 1], [0, 0]], ["cat", "dog"])] == ["cat"]

    def test_the_rows_of_a_matrix_are_labels(self):
        (cat, dog) = classes_of_matrix([[3, 1], [2, 0]], ["cat", "dog"])
        assert (cat.clean.accuracy, dog.clean.accuracy, dog.images) == (0.75, 0.0, 2)
        assert cat.attacked is None

    def test_the_strict_attack_in_the_papers_ball_stands_beside_the_clean_accuracy(self, runs):
        model = runs.model()
        runs.add("evaluate", model, evaluation([True] * 6))
        runs.add("attack", model, attacks(attack_row([0] * 6, eps=2 * EPS), attack_row([10] * 3 + [0] * 3)))
        (found,) = models_of(model)[0].per_class
        assert found.attack == "pgd l-inf 8/255 strict"
        assert [row.name for row in found.classes] == ["cat", "dog", "bird"]
        (chart,) = per_class(models_of(model))
        assert [one.name for one in chart.series] == ["clean", "under attack"]
        assert chart.label.startswith("Accuracy by class: under pgd l-inf 8/255 strict, from 50.0 % of cat")

    def test_an_attack_on_few_images_stands_back_however_little_it_leaves(self, runs):
        model = runs.model()
        runs.add("attack", model, attacks(attack_row([10] * 3 + [0] * 3)))
        runs.add("attack", model, attacks(attack_row([0, 0], samples=1)))
        (found,) = models_of(model)[0].per_class
        assert sum(row.images for row in found.classes) == models_of(model)[0].headline.strict.images == 6

    def test_without_a_strict_attack_it_is_clean_alone(self, runs):
        model = runs.model()
        runs.add("evaluate", model, evaluation([True, False, True]))
        runs.add("attack", model, attacks(attack_row([1, 0, 0], "paper")))
        (chart,) = per_class(models_of(model))
        assert [one.name for one in chart.series] == ["clean"]

    def test_classes_without_an_image_are_named(self, runs):
        model = runs.model()
        runs.add("evaluate", model, evaluation([True] * 6))
        runs.add("attack", model, attacks(attack_row([10, 0], labels=[1, 1])))
        (found,) = models_of(model)[0].per_class
        assert found.absent == ("cat", "bird")
        (chart,) = per_class(models_of(model))
        assert chart.caption.endswith(" No image of cat, bird.")

    def test_of_many_classes_those_with_the_least_accuracy_are_drawn(self, runs):
        model = runs.model()
        runs.add("attack", model, attacks(attack_row([10] * 30 + [0] * 5, labels=list(range(35)))))
        (chart,) = per_class(models_of(model))
        assert len(chart.rows) == 20
        assert chart.rows[:5] == ("30", "31", "32", "33", "34")
        assert "The 20 of 35 classes" in chart.caption


def test_the_legend_of_models_under_two_protocols_has_each_model_once(runs):
    models = [runs.model(), runs.model(name="other")]
    for one in models:
        rows = [attack_row([10, 0], protocol, eps=eps) for protocol in ("strict",) for eps in (EPS, 2 * EPS)]
        rows += [attack_row([1, 0], "paper", eps=eps) for eps in (EPS, 2 * EPS)]
        runs.add("attack", one, attacks(*rows))
    (chart,) = against_eps(models_of(*models))
    assert [(one.in_legend, one.dashed) for one in chart.legend] == [("cifar10", False), ("other", False)]
    assert "Dashed: other protocols, which are not." in chart.caption
    assert chart.series[0].name == "cifar10, strict"


def test_what_charts_show_is_in_the_json_without_a_list_of_images(measured):
    found = build_report([gather(measured)]).plain()["models"][0]
    assert {"against_passes", "per_class"} <= found.keys()
    assert set(found["certified"][0]["probability"]) == {"exact", "right", "other"}
    assert "outcomes" not in found["certified"][0]


@pytest.fixture
def model(runs):
    """A model with a chart by eps, one of classes, one certified and one of p_A."""
    made = runs.add("finetune", results=None)
    runs.add("evaluate", made, evaluation([True, False, True]))
    runs.add("attack", made, attacks(attack_row([10, 0, 5]), attack_row([10, 0, 0], eps=2 * EPS)))
    runs.add("certify", made, certification([0.1, 0.2], [True, False]))
    return made


class TestFiles:
    def written(self, model, folder, figures="figures"):
        _, paths = write_report([gather(model)], folder, images=False, figures=folder / figures)
        return paths

    def test_every_chart_of_the_page_is_an_svg_and_a_pdf(self, model, page_folder):
        paths = self.written(model, page_folder)
        charts = build_document(build_report([gather(model)])).charts.all
        for kind in ("svg", "pdf"):
            assert sum(path.suffix == f".{kind}" for path in paths) >= len(charts)
        names = {path.name for path in paths}
        assert {
            "ladder.pdf",
            "robust-accuracy-by-eps-l-inf-m64.pdf",
            "certified-accuracy-by-radius-l1.svg",
            "table-of-attacks.tex",
        } <= names
        assert {path.name for path in (page_folder / "figures").iterdir()} == names - {
            *("report.html", "report.md", "report.json"),
        }

    def test_a_table_has_the_columns_and_figures_of_the_page(self, model, page_folder):
        written = {path.name: path for path in self.written(model, page_folder)}
        accuracy = list(csv.DictReader(written["table-of-accuracy.csv"].read_text().splitlines()))
        assert [row["m"] for row in accuracy] == ["1", "64"]
        assert accuracy[0]["model"] == "cifar10: cifar10/test, uniform scale 0.3"
        assert accuracy[0]["majority"].startswith("66.7 [")
        for name, path in written.items():
            if path.suffix == ".csv":
                assert len(next(csv.reader(path.read_text().splitlines()))) > 1, name

    def test_every_chart_has_a_caption_since_there_is_no_title_in_it(self, model, page_folder):
        self.written(model, page_folder)
        text = (page_folder / "figures" / "captions.txt").read_text()
        for chart in build_document(build_report([gather(model)])).charts.all:
            assert f"{chart.title}. {chart.caption}" in text

    def test_figures_under_paper_stand_in_no_table_without_what_they_are(self, runs, page_folder):
        model = runs.model()
        runs.add("evaluate", model, evaluation([True, False, True]))
        runs.add("attack", model, attacks(attack_row([10, 0, 5]), attack_row([1, 0, 1], "paper")))
        self.written(model, page_folder)
        text = (page_folder / "figures" / "captions.txt").read_text()
        said = dict(entry.split("\n", 1) for entry in text.strip().split("\n\n"))
        for name in ("table-of-headlines", "table-1", "table-of-attacks"):
            assert "it reproduces, it is not the model's robustness" in said[name]
        assert "RUSH I_F in Table 1: " in said["table-1"]

    def test_the_same_figures_are_the_same_bytes(self, model, page_folder):
        first = self.written(model, page_folder, "first")[3:]
        second = self.written(model, page_folder, "second")[3:]
        assert [path.name for path in first] == [path.name for path in second]
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]

    def test_charts_of_one_name_are_told_apart_by_a_number(self, runs, page_folder):
        models = [runs.add("finetune", name=name) for name in ("a/b", "a-b")]
        for one in models:
            runs.add("evaluate", one, evaluation([True, False, True]))
        _, paths = write_report([gather(one) for one in models], page_folder, False, page_folder)
        names = [path.name for path in paths if path.suffix == ".pdf"]
        assert {"accuracy-by-class-a-b.pdf", "accuracy-by-class-a-b-2.pdf"} <= set(names)

    def test_hostile_names_make_figures(self, runs, page_folder):
        evil = "$\\frac{</svg><script>\x1b[2J../../_"
        model = runs.add("finetune", name=evil)
        runs.add("evaluate", model, evaluation([True, False], per_class={evil: 1.0, "_b": 0.0}))
        runs.add("attack", model, attacks(attack_row([10, 0]), attack_row([10, 0], eps=2 * EPS)))
        for path in self.written(model, page_folder):
            assert path.parent in (page_folder, page_folder / "figures")
            if path.suffix == ".svg":
                assert "<script" not in path.read_text()

    def test_a_folder_that_cannot_be_written_is_said_before_anything_is_computed(
        self, model, page_folder, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("rushkit.report.write.build_report", lambda _: pytest.fail("computed before it looked"))
        blocked = tmp_path / "file"
        blocked.write_text("")
        for folder in (blocked, blocked / "below"):
            with pytest.raises(RushkitError, match=f"cannot write {re.escape(str(folder))}"):
                write_report([gather(model)], page_folder, False, folder)

    def test_the_function_writes_them_too(self, model, page_folder):
        page = rushkit.report(model.path, out=page_folder, images=False, figures=page_folder / "f")
        assert page.document["models"]
        assert [path.name for path in page.files[:3]] == ["report.html", "report.md", "report.json"]
        assert all(path.parent == page_folder / "f" for path in page.files[3:])
        assert len(page.files) > 10
