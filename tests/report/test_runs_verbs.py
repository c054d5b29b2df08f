"""``rushkit runs``: what names, lists, ranks, compares, exports and removes runs, on folders without any training."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from printed import check_printed
from synthetic_runs import Runs, attack_row, attacks, evaluation, recipe_of

from rushkit.cli.app import main
from rushkit.rounding import percent_interval
from rushkit.run.info import RunInfo
from rushkit.run.shipped import shipped_models

HITS = [index % 3 > 0 for index in range(60)]


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(capsys) -> Callable[..., Said]:
    def run(*words: str) -> Said:
        capsys.readouterr()
        said = Said(main(list(words)), *capsys.readouterr())
        check_printed(words, said.out)
        return said

    return run


@pytest.fixture
def fails(cli) -> Callable[..., Said]:
    """As ``cli``, for a command that must fail with one message and a hint."""

    def run(code: int, *words: str) -> Said:
        said = cli(*words)
        assert said.code == code, said.err
        assert (said.err.count("error: "), said.err.count("hint: ")) == (1, 1), said.err
        return said

    return run


@pytest.fixture
def study(folder) -> Runs:
    """Nine models of the digits, each under another noise, evaluated and attacked; the last are the best."""
    runs = Runs(folder / "runs")
    for scale in range(1, 10):
        recipe = recipe_of("digits", f"noise.scale={scale / 10}")
        about = {"recipe": recipe, "name": recipe.name}
        model = runs.model(**about)
        right = [hit and index % 10 <= scale for index, hit in enumerate(HITS)]
        results = evaluation(right, samples=(64,), data="digits/test", noise=recipe.noise)
        runs.add("evaluate", model, results, **about)
        row = attack_row([8 * hit for hit in right], split="digits/test")
        runs.add("attack", model, attacks(row, noise=recipe.noise), **about)
    return runs


def of(study: Runs, verb: str) -> list[RunInfo]:
    return [study.info(path) for path in sorted(study.root.glob(f"*-{verb}-*"))]


def models(study: Runs) -> list[str]:
    return [run.path.name[-6:] for run in of(study, "finetune")]


@pytest.mark.parametrize("width", [60, 80, 120, 160])
def test_every_run_of_a_list_shows_its_id_at_any_width(cli, study, monkeypatch, width):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")
    lines = cli("runs", "list").out.splitlines()
    ids = [run.path.name[-6:] for run in of(study, "*")]
    assert [line[:6] for line in lines if re.match("[0-9a-f]{6} ", line)] == sorted(ids, reverse=True)
    assert "36 runs, " in "\n".join(lines)


def test_a_list_has_date_age_noise_seed_size_and_figure(cli, study):
    head, first = cli("runs", "list").out.splitlines()[:2]
    assert head.split() == ["id", "date", "age", "verb", "recipe", "noise", "seed", "size", "status", "figure"]
    assert re.search(r"2030-01-01 .* attack +digits\+uniform-0.9 +uniform 0.9 +0 +[0-9.]+ KiB +finished", first)
    assert "pgd l-inf 8/255 strict, m = 64, n = 60" in first


def test_a_list_as_json_has_figures_as_numbers(cli, study):
    found = json.loads(cli("runs", "list", "--json").out)
    rows = {row["run"]: row for row in found["runs"]}
    row = rows[f"runs/{of(study, 'evaluate')[-1].path.name}"]
    assert (row["noise"], row["seed"], row["id"]) == ("uniform 0.9", 0, row["run"][-6:])
    (number,) = [one for one in row["figures"] if one["what"] == "digits/test, m = 64, majority"]
    assert (number["name"], number["images"]) == ("accuracy", 60)
    assert number["value"] == pytest.approx(40 / 60)
    assert number["low"] < number["value"] < number["high"]
    assert found["bytes"] == sum(row["bytes"] for row in found["runs"]) > 0


@pytest.mark.parametrize(
    "filters, count",
    [
        (["verb=attack"], 9),
        (["recipe=digits"], 36),
        (["recipe=digits+uniform-0.9"], 4),
        (["noise=uniform 0.3"], 4),
        (["noise=uniform"], 36),
        (["noise.scale=0.30"], 4),
        (["noise.scale=0.3", "verb=finetune"], 1),
        (["seed=0", "status=finished", "verb=*t*e*"], 18),
        (["status=failed"], 0),
    ],
)
def test_filters_must_all_be_met(cli, study, filters, count):
    words = [word for condition in filters for word in ("--filter", condition)]
    assert len(json.loads(cli("runs", "list", "--json", *words).out)["runs"]) == count


def test_a_wrong_filter_or_sort_names_the_nearest(fails, study):
    assert "did you mean noise.scale" in fails(2, "runs", "list", "--filter", "noise.scal=1").err
    assert "is not KEY=VALUE" in fails(2, "runs", "list", "--filter", "noise").err
    assert "did you mean size?" in fails(2, "runs", "list", "--sort", "siz").err


def test_a_list_is_sorted(cli, study):
    def column(name: str, *words: str) -> list[object]:
        return [row[name] for row in json.loads(cli("runs", "list", "--json", *words).out)["runs"]]

    sizes = column("bytes", "--sort", "size")
    assert sizes == sorted(sizes, reverse=True)
    assert column("noise", "--sort", "noise") == sorted(column("noise"))
    assert column("started", "--reverse") == sorted(column("started"))


def test_show_of_a_model_tells_what_was_measured_of_it(cli, study):
    model, evaluated, attacked = (of(study, verb)[-1].path.name for verb in ("finetune", "evaluate", "attack"))
    shown = cli("runs", "show", models(study)[-1]).out
    assert f"evaluate {evaluated}: 66.7 % at m = 64, n = 60" in shown
    assert re.search(rf"attack {re.escape(attacked)}: [0-9.]+ % pgd l-inf 8/255 strict", shown)
    found = json.loads(cli("runs", "show", model, "--json").out)
    assert len(found["measured"]) == 2
    assert cli("runs", "show", evaluated).out.count("measured of it") == 0


def test_nine_models_are_compared_by_their_figures_and_named_by_what_differs(cli, study):
    found = json.loads(cli("runs", "compare", *models(study), "--json").out)
    assert found["names"] == [f"scale 0.{n}" for n in range(1, 10)]
    assert found["ids"] == models(study)
    clean, robust = found["figures"]
    assert [clean["name"], robust["name"]] == ["accuracy", "robust_accuracy"]
    assert [round(60 * number["value"]) for number in clean["numbers"]] == [
        sum(hit and index % 10 <= scale for index, hit in enumerate(HITS)) for scale in range(1, 10)
    ]
    assert found["significance"] == []
    said = cli("runs", "compare", *models(study)).out
    # Both ends of an interval are rounded outwards.
    best = clean["numbers"][-1]
    assert f"66.7 [{percent_interval(best['low'], best['high'])}]" in said
    assert "pairs are tested image by image with --pair A,B or --all-pairs" in said


def test_of_many_models_the_pairs_that_are_asked_for_are_tested_and_corrected(cli, fails, study):
    ids = models(study)
    found = json.loads(cli("runs", "compare", *ids, "--pair", "1,9", "--pair", f"{ids[1]},{ids[8]}", "--json").out)
    tests = found["significance"]
    assert {(test["first"], test["second"]) for test in tests} == {(ids[0], ids[8]), (ids[1], ids[8])}
    # Two rules without an attack, and the attack.
    assert len(tests) == 6
    smallest = min(tests, key=lambda test: test["p_value"])
    assert smallest["corrected"] == pytest.approx(6 * smallest["p_value"])
    assert "corrected for these 6 tests" in cli("runs", "compare", *ids, "--pair", "1,9", "--pair", "2,9").out
    everything = json.loads(cli("runs", "compare", *ids, "--all-pairs", "--json").out)["significance"]
    assert len(everything) == 3 * 36
    assert "'10' is none of the runs" in fails(2, "runs", "compare", *ids, "--pair", "1,10").err
    assert "is not A,B" in fails(2, "runs", "compare", *ids, "--pair", "1").err


def test_few_models_are_tested_in_every_pair(cli, study):
    assert len(json.loads(cli("runs", "compare", *models(study)[:3], "--json").out)["significance"]) == 9


def test_the_best_run_is_among_those_measured_alike(cli, fails, study):
    found = json.loads(cli("runs", "best", "--by", "accuracy", "--json").out)
    assert found["best"]["run"] == of(study, "evaluate")[-1].path.name
    assert found["best"]["model"] == models(study)[-1]
    assert found["rankings"][0]["what"].startswith("digits/test, m = 64, majority, n = ")
    rows = found["rankings"][0]["rows"]
    assert [row["rank"] for row in rows] == list(range(1, 10))
    values = [row["number"]["value"] for row in rows]
    assert values == sorted(values, reverse=True)
    assert "did you mean robust_accuracy?" in fails(2, "runs", "best", "--by", "robust").err
    assert "no run has the figure inertia" in fails(2, "runs", "best", "--by", "inertia").err
    assert "robust accuracy: digits/test, pgd" in cli("runs", "best", "--by", "robust_accuracy").out


def test_runs_of_one_figure_share_a_rank(cli, folder):
    runs = Runs(folder / "runs")
    for right in (2, 3, 2, 1):
        model = runs.model()
        runs.add("evaluate", model, evaluation([index < right for index in range(4)], samples=(64,)))
    (ranking, *_) = json.loads(cli("runs", "best", "--json").out)["rankings"]
    ranked = [(row["rank"], row["number"]["value"]) for row in ranking["rows"]]
    assert ranked == [(1, 0.75), (2, 0.5), (2, 0.5), (4, 0.25)]


def test_few_images_are_not_ranked_beside_many(cli, folder):
    runs = Runs(folder / "runs")
    for right, images in ((6, 6), (50, 64), (40, 64)):
        runs.add("evaluate", runs.model(), evaluation([index < right for index in range(images)], samples=(64,)))
    found = json.loads(cli("runs", "best", "--json").out)
    ranked = {ranking["what"]: [row["number"]["value"] for row in ranking["rows"]] for ranking in found["rankings"]}
    assert ranked["cifar10/test, m = 64, majority, n = 64"] == [50 / 64, 40 / 64]
    assert ranked["cifar10/test, m = 64, majority, n = 6"] == [1.0]
    assert found["best"]["number"]["images"] == 64


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_model_is_exported_with_all_that_was_measured_of_it(cli, fails, study, folder):
    said = cli("runs", "export", models(study)[-1], "--to", "out")
    assert said.code == 0, said.err
    figures = read(folder / "out" / "figures.csv")
    (clean,) = [row for row in figures if row["figure"] == "accuracy" and row["what"].endswith("majority")]
    assert (float(clean["value"]), clean["noise"], clean["images"]) == (40 / 60, "uniform 0.9", "60")
    outcomes = read(folder / "out" / "outcomes.csv")
    votes = [int(row["right"]) for row in outcomes if "pgd" in row["what"] and row["rule"] == "majority"]
    assert votes == [8 * hit for hit in HITS]
    curves = read(folder / "out" / "metrics.csv")
    assert {"run", "kind", "step", "epoch", "metric", "value"} == set(curves[0])
    assert [row["value"] for row in curves if row["metric"] == "knn_accuracy"] == ["0.5"]
    assert "exists already" in fails(2, "runs", "export", models(study)[0], "--to", "out").err
    assert cli("runs", "export", models(study)[0], "--to", "out", "--force").code == 0


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@sum(a1)", "\tx", "\x1b[2J"])
def test_no_cell_of_an_export_is_a_formula(cli, folder, name):
    runs = Runs(folder / "runs")
    path = runs.add("evaluate", results=evaluation([True, False], data=name), name="x").path
    told = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**told, "recipe": name}))
    assert cli("runs", "export", path.name, "--to", "out").code == 0
    for file in ("figures.csv", "outcomes.csv"):
        for row in read(folder / "out" / file):
            assert not any(cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\x1b") for cell in row.values())


def test_remove_asks_and_deletes_only_with_yes(cli, fails, study):
    run = of(study, "attack")[0].path
    assert "nobody can be asked" in fails(2, "runs", "remove", run.name[-6:]).err
    assert run.exists()
    said = cli("runs", "remove", run.name[-6:], "--yes")
    assert said.code == 0, said.err
    assert not run.exists()
    assert len(list(study.root.iterdir())) == 35


@pytest.mark.parametrize("answer", ["n\n", "y\n"])
def test_remove_asks_at_a_terminal(cli, study, monkeypatch, answer):
    import io

    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)
    run = of(study, "attack")[0].path
    said = cli("runs", "remove", run.name)
    assert run.name in said.err
    assert run.exists() == (answer == "n\n")


def test_remove_refuses_what_others_depend_on_unless_told(cli, fails, study):
    model, name = of(study, "finetune")[0].path, models(study)[0]
    said = fails(2, "runs", "remove", name, "--yes")
    assert "is what others depend on: " in said.err
    assert of(study, "evaluate")[0].path.name in said.err
    assert cli("runs", "remove", name, "--yes", "--with-children").code == 0
    assert [path.exists() for path in (model, of(study, "pretrain")[0].path)] == [False, True]
    assert len(list(study.root.iterdir())) == 33
    assert cli("runs", "remove", models(study)[0], "--yes", "--force").code == 0
    assert len(of(study, "evaluate")) == 8


@pytest.mark.parametrize("key", ["counts", "transfer_to", "baseline"])
def test_counts_other_models_and_baselines_are_depended_on_as_well(fails, study, key):
    needed, other = of(study, "attack")[0].path, of(study, "attack")[1].path
    told = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**told, key: f"elsewhere/{needed.name}/x"}))
    assert other.name in fails(2, "runs", "remove", needed.name, "--yes").err


def test_remove_refuses_a_run_that_works(fails, study):
    from rushkit.locks import FolderLock

    run = of(study, "attack")[0].path
    told = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**told, "status": "running"}))
    lock = FolderLock(run)
    try:
        assert "is running" in fails(2, "runs", "remove", run.name, "--yes", "--force").err
    finally:
        lock.release()
    assert run.exists()


def test_remove_leaves_the_models_that_come_with_rushkit(fails):
    model = shipped_models()["shipped/digits"]
    before = sorted(model.path.parent.rglob("*"))
    for name in ("shipped/digits", str(model.path)):
        for told in ("--force", "--with-children"):
            assert "comes with rushkit" in fails(2, "runs", "remove", name, "--yes", told).err
    assert sorted(model.path.parent.rglob("*")) == before


def test_remove_leaves_folders_that_are_no_runs(fails, folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "run.json").write_text('{"name": "something else"}')
    assert "is not that of a run" in fails(2, "runs", "remove", "mine", "--yes", "--force").err
    (folder / "link").symlink_to(Runs(folder / "runs").add("attack").path)
    assert "is not a run folder" in fails(2, "runs", "remove", "link", "--yes").err
    assert (folder / "mine" / "run.json").exists()


def test_results_that_are_too_large_are_damaged(cli, study, monkeypatch):
    monkeypatch.setattr("rushkit.results.records.MAX_BYTES", 100)
    assert "damaged results" in cli("runs", "list").out


def test_the_verbs_of_runs_do_not_import_torch(study, folder):
    ids = models(study)
    words = [
        ["list", "--json"],
        ["show", ids[0]],
        ["compare", *ids],
        ["best", "--by", "accuracy"],
        ["export", ids[0], "--to", "out"],
        ["remove", of(study, "attack")[0].path.name, "--yes"],
        ["clean"],
    ]
    code = f"""
import sys
from rushkit.cli.app import main
from rushkit.rounding import percent_interval
for words in {words!r}:
    assert main(["runs", *words]) == 0, words
    assert "torch" not in sys.modules, words
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
