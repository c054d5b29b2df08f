"""Accuracy under corruptions and under shifts, as the stage measures it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from tiny_runs import QUIET, TINY, checkpoint_of, finetuned, pretrained, toy

from rushkit import registries
from rushkit.corruptions import corrupted
from rushkit.errors import Interrupted, RushkitError, UsageError
from rushkit.evaluation import corrupted as corrupted_module
from rushkit.evaluation import evaluate as evaluate_module
from rushkit.evaluation import shifted as shifted_module
from rushkit.evaluation.baseline import Baseline, baseline_of
from rushkit.evaluation.blocks import square_side
from rushkit.evaluation.evaluate import evaluate
from rushkit.evaluation.shifted import _Search, score
from rushkit.recipe.load import load_recipe
from rushkit.results import read
from rushkit.results.evaluation import Evaluation
from rushkit.results.logs import ShiftBlock, ThreatSubject
from rushkit.results.threats import CorruptionBaseline, mean_corruption_error
from rushkit.run.folder import Run
from rushkit.setup.components import to_float
from rushkit.setup.start import start_run
from rushkit.setup.subject import Subject
from rushkit.statistics import mean_ratio_interval
from rushkit.views.shift import shift_grid, shifted
from rushkit.votes import Tally

FEW = ("evaluate.corruptions=['contrast','shot-noise']", "evaluate.strengths=[5,1]", "evaluate.limit=12")
MOVED = ("evaluate.shift=true", "evaluate.grid=[3,3,1]", "evaluate.limit=10", "evaluate.samples=[4]")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A fine-tuned checkpoint, which tests share."""
    registries.backbones.register("toy")(toy)
    try:
        folder = tmp_path_factory.mktemp("threats") / "runs"
        recipe = load_recipe("digits", [*TINY, f"system.runs_dir={folder}", "finetune.optimizer.lr=1.0"], {})
        return checkpoint_of(finetuned(recipe, checkpoint_of(pretrained(recipe))))
    finally:
        registries.backbones.unregister("toy", toy.__module__.partition(".")[0])


def evaluated(recipe, checkpoint, baseline=None) -> Evaluation:
    with start_run("evaluate", recipe, QUIET, parent=str(checkpoint.path)) as run:
        results = evaluate(recipe, checkpoint, run, baseline)
    assert read(run.path) == results
    return results


def test_each_cell_is_the_accuracy_on_its_corrupted_images(tiny, trained):
    recipe = tiny(*FEW)
    results = evaluated(recipe, trained)
    measured = results.corruptions
    assert (measured.kinds, measured.strengths, measured.parameters) == (
        ["contrast", "shot-noise"],
        [1, 5],
        "cifar10-c",
    )
    assert len(measured.rows) == 2 * 2 * 2 * 2
    subject = Subject.open(recipe, trained, split="test", limit=12)
    g = subject.smoothed(4)
    for row in measured.rows:
        x = to_float(corrupted(subject.split.images[:], row.kind, row.strength, 0, subject.indices))
        tally = g.keyed_tally(x, subject.indices, 0, f"evaluate {row.samples}", row.samples)
        assert row.correct == int((tally.predict(row.rule) == subject.labels).sum())
        assert (row.images, row.accuracy) == (12, row.correct / 12)
    for mean, clean in zip(measured.means, results.accuracy, strict=True):
        cells = [row for row in measured.rows if (row.samples, row.rule) == (mean.samples, mean.rule)]
        assert mean.accuracy == pytest.approx(sum(row.accuracy for row in cells) / 4)
        assert mean.clean == clean.accuracy
        assert mean.low <= mean.accuracy <= mean.high
        assert mean.mce is None


def test_a_larger_limit_corrupts_the_same_images_alike(tiny, trained):
    few, more = (evaluated(tiny(*FEW, f"evaluate.limit={limit}"), trained).corruptions.outcomes for limit in (12, 20))
    assert more.indices[:12] == few.indices
    for m, rules in few.right.items():
        for rule, kinds in rules.items():
            assert {kind: column[:12] for kind, column in more.right[m][rule].items()} == kinds


def test_a_stopped_evaluation_goes_on_to_the_same_figures(tiny, trained, monkeypatch):
    recipe, calls = tiny(*FEW), []
    monkeypatch.setattr(corrupted_module, "BLOCK", 5)
    whole = evaluated(recipe, trained)

    def counted(*arguments):
        calls.append(arguments)
        if len(calls) == 8:
            raise Interrupted("stopped")
        return corrupted(*arguments)

    monkeypatch.setattr(corrupted_module, "corrupted", counted)
    run = start_run("evaluate", recipe, QUIET, parent=str(trained.path))
    with pytest.raises(Interrupted), run:
        evaluate(recipe, trained, run)
    with Run.open(run.path, QUIET) as again:
        results = evaluate(recipe, trained, again)
    # Four corruptions of three blocks; seven of them were kept.
    assert len(calls) == 8 + 12 - 7
    assert results.corruptions == whole.corruptions


def test_a_log_of_other_images_or_with_altered_outcomes_is_refused(tiny, trained):
    recipe = tiny(*FEW)
    with start_run("evaluate", recipe, QUIET, parent=str(trained.path)) as run:
        evaluate(recipe, trained, run)
    with Run.open(run.path, QUIET) as again, pytest.raises(RushkitError, match="is about something else"):
        evaluate(tiny(*FEW, "evaluate.strengths=[1,2]"), trained, again)
    log = run.path / "counts" / "corruptions.jsonl"
    log.write_text(log.read_text().replace('"strength": 1', '"strength": 5', 1))
    with Run.open(run.path, QUIET) as again, pytest.raises(RushkitError, match="damaged"):
        evaluate(recipe, trained, again)


@pytest.mark.parametrize("flag", ["--corruptions", "--shift"])
def test_images_that_are_not_square_are_refused(tiny, trained, flag):
    subject = Subject.open(tiny(*FEW), trained, split="test", limit=1)
    assert square_side(subject, flag) == 8
    wide = replace(subject, classifier=replace(subject.classifier, image_size=(8, 12)))
    with pytest.raises(UsageError, match=f"{flag} is for square images, and these are 8x12"):
        square_side(wide, flag)


class TestBaseline:
    def test_a_model_has_all_of_its_own_errors(self, tiny, trained):
        first = evaluated(tiny(*FEW, "evaluate.rules=['majority']"), trained)
        again = evaluated(tiny(*FEW, "evaluate.rules=['majority']"), trained, first)
        one, four = again.corruptions.means
        assert again.corruptions.baseline.samples == 4
        assert (four.mce.value, four.mce.low, four.mce.high) == pytest.approx((1, 1, 1))
        stated = [row for row in again.to_rows() if row["figure"] == "mean_corruption_error"]
        assert [(row["m"], row["value"], row["low"], row["high"]) for row in stated] == [
            (mean.samples, mean.mce.value, mean.mce.low, mean.mce.high) for mean in (one, four)
        ]
        errors = first.corruptions.errors_of(1, "majority"), first.corruptions.errors_of(4, "majority")
        assert one.mce.value == pytest.approx(sum(errors[0][kind] / errors[1][kind] for kind in errors[0]) / 2)

    def test_the_interval_is_over_images_that_both_models_share(self):
        facts = CorruptionBaseline(run="", samples=1, rule="majority", errors={"fog": 0.5, "snow": 0.75})
        baseline = Baseline(facts, {"fog": [1, 0, 1, 2], "snow": [0, 0, 1, 1]})
        error = baseline.error_of({"snow": [2, 1, 1, 0], "fog": [2, 1, 2, 0]}, strengths=2)
        ours, theirs = [[0, 0], [0.5, 0.5], [0, 0.5], [1, 1]], [[0.5, 1], [1, 1], [0.5, 0.5], [0, 0.5]]
        assert error.value == pytest.approx((0.375 / 0.5 + 0.5 / 0.75) / 2)
        assert (error.low, error.high) == pytest.approx(mean_ratio_interval(ours, theirs))

    def test_one_image_has_no_interval(self):
        facts = CorruptionBaseline(run="", samples=1, rule="majority", errors={"fog": 0.5})
        error = Baseline(facts, {"fog": [1]}).error_of({"fog": [2]}, strengths=2)
        assert (error.value, error.low, error.high) == (0, None, None)

    def test_the_mean_is_over_kinds_and_not_over_errors(self):
        assert mean_corruption_error({"fog": 0.1, "snow": 0.9}, {"fog": 0.2, "snow": 0.9}) == pytest.approx(0.75)

    def test_other_images_strengths_or_none_are_refused(self, tiny, trained):
        recipe = tiny(*FEW, "evaluate.samples=[1]")
        plain = evaluated(tiny("evaluate.limit=12", "evaluate.samples=[1]"), trained)
        with pytest.raises(UsageError, match="has no accuracy under corruptions"):
            evaluated(recipe, trained, plain)
        first = evaluated(recipe, trained)
        with pytest.raises(UsageError, match="was not measured under the strengths 1, 2"):
            baseline_of(first, tiny(*FEW, "evaluate.strengths=[1,2]"))
        with pytest.raises(UsageError, match="was not measured under fog"):
            baseline_of(first, tiny(*FEW, "evaluate.corruptions=['fog']"))
        with pytest.raises(UsageError, match="was measured on 12 images of digits/test, and here are 8"):
            evaluated(tiny(*FEW, "evaluate.samples=[1]", "evaluate.limit=8"), trained, first)

    def test_without_an_error_there_is_no_share_of_it(self, tiny, trained):
        first = evaluated(tiny(*FEW, "evaluate.samples=[1]"), trained)
        rows = [
            row.with_changes(correct=12, accuracy=1.0, high=1.0) if row.kind == "contrast" else row
            for row in first.corruptions.rows
        ]
        flawless = first.corruptions.model_copy(update={"rows": rows})
        with pytest.raises(UsageError, match="makes no error under contrast"):
            baseline_of(first.model_copy(update={"corruptions": flawless}), tiny(*FEW))


class TestShifts:
    def test_every_point_counts_what_is_right_there_and_the_worst_point_is_voted_on_anew(self, tiny, trained):
        recipe = tiny(*MOVED)
        results = evaluated(recipe, trained)
        moved = results.shifts
        subject = Subject.open(recipe, trained, split="test", limit=10)
        grid, g, keys = shift_grid(30, 0.75, (3, 3, 1)), subject.smoothed(4), subject.indices
        x, y = subject.batch(slice(None))
        assert (moved.translation, moved.size) == (0.75, 9)
        for row in moved.rows:
            scores = torch.stack(
                [score(g.keyed_tally(shifted(x, point), keys, 0, "shift 4", 4), y, row.rule) for point in grid]
            )
            found, m, rule = moved.outcomes, "4", row.rule
            assert moved.points[m][rule] == (scores > 0).sum(dim=1).tolist()
            assert found.worst[m][rule] == scores.argmin(dim=0).tolist()
            assert found.held[m][rule] == (scores > 0).all(dim=0).long().tolist()
            at_worst = torch.cat([shifted(x[n : n + 1], grid[place]) for n, place in enumerate(found.worst[m][rule])])
            fresh = g.keyed_tally(at_worst, keys, 0, "shift worst 4", 4).predict(rule) == y
            assert found.right[m][rule] == fresh.long().tolist()
            assert row.accuracy == sum(found.right[m][rule]) / 10
            clean = next(one for one in results.accuracy if one.rule == rule)
            assert row.natural == clean.accuracy

    def test_a_model_without_noise_is_asked_once(self, tiny, trained):
        moved = evaluated(tiny(*MOVED, "noise.name=none"), trained).shifts
        assert moved.outcomes.right == moved.outcomes.held
        for row in moved.rows:
            assert row.accuracy == row.held <= row.natural

    def test_no_shift_at_all_leaves_the_natural_accuracy(self, tiny, trained):
        moved = evaluated(tiny(*MOVED, "noise.name=none", "evaluate.grid=[1,1,1]"), trained).shifts
        assert all(row.accuracy == row.natural for row in moved.rows)

    def test_a_stopped_search_goes_on_to_the_same_figures(self, tiny, trained, monkeypatch):
        recipe = tiny(*MOVED)
        monkeypatch.setattr(shifted_module, "BLOCK", 4)
        whole, calls = evaluated(recipe, trained), []
        conclude = _Search.conclude

        def counted(self, m, block):
            calls.append(block.images)
            if len(calls) == 2:
                raise Interrupted("stopped")
            conclude(self, m, block)

        monkeypatch.setattr(_Search, "conclude", counted)
        run = start_run("evaluate", recipe, QUIET, parent=str(trained.path))
        with pytest.raises(Interrupted), run:
            evaluate(recipe, trained, run)
        with Run.open(run.path, QUIET) as again:
            results = evaluate(recipe, trained, again)
        assert calls == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7], [8, 9]]
        assert results.shifts == whole.shifts

    def test_translations_out_of_sight_are_refused(self, tiny, trained):
        with pytest.raises(UsageError, match="a translation by 8 pixels moves images of 8x8 out of sight"):
            evaluated(tiny(*MOVED, "evaluate.translation=8"), trained)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("evaluate.shift=true", "evaluate.translation=8"), "out of sight"),
        (("evaluate.corruptions=['fog']",), "9x9 pixels at least"),
    ],
)
def test_images_that_a_threat_is_not_defined_for_are_refused_before_any_pass(tiny, trained, monkeypatch, changes, says):
    def early(*_):
        pytest.fail("the clean images were voted on first")

    monkeypatch.setattr(evaluate_module, "count_outcomes", early)
    monkeypatch.setattr("rushkit.corruptions.corrupt.SMALLEST", 9)
    with pytest.raises(UsageError, match=says):
        evaluated(tiny(*changes), trained)


class Coin:
    """A model that is right with probability 0.8, whatever it looks at."""

    deterministic = False

    def __init__(self) -> None:
        self.source = torch.Generator().manual_seed(0)

    def keyed_tally(self, x, keys, seed, purpose, samples):
        right = torch.rand(len(x), generator=self.source) < 0.8
        votes = torch.stack([right, ~right], dim=1).long()
        return Tally(votes, votes.double(), votes.double(), 1)


def test_the_least_of_many_noisy_votes_is_low_and_a_fresh_one_is_not():
    """Every point leaves 80 %. The search finds a lost vote for each image, and the figure is 80 % all the same."""
    images, about = 400, {"model": "", "data": "", "content": "", "indices": [], "noise": {"name": "none"}}
    subject = ThreatSubject(**about, precision="float32", samples=[1], rules=["majority"], seed=0, block=images)
    x = torch.full((images, 1, 4, 4), 0.5)
    grid = shift_grid(30, 1, (5, 3, 3))
    search = _Search(Coin(), subject, grid, x, torch.zeros(images, dtype=torch.int64), torch.arange(images))
    block = ShiftBlock(images=list(range(images)), points={}, worst={}, held={}, right={})
    for first in range(0, len(grid), search.together):
        search.look(1, first)
    search.conclude(1, block)
    assert sum(block.held["1"]["majority"]) / images < 0.01
    # Four standard errors of 400 images.
    assert sum(block.right["1"]["majority"]) / images == pytest.approx(0.8, abs=0.08)


def test_a_vote_that_is_lost_scores_below_every_one_that_is_won():
    votes = torch.tensor([[4, 0], [3, 1], [2, 2], [1, 3], [2, 2]])
    confidence = torch.tensor([[3.0, 1.0], [3.0, 1.0], [1.0, 3.0], [2.5, 1.5], [3.0, 1.0]], dtype=torch.float64)
    tally, y = Tally(votes, confidence, confidence, 4), torch.zeros(5, dtype=torch.int64)
    by_vote = score(tally, y, "majority")
    # A tie goes to the lowest class, which is the label here.
    assert by_vote.argsort().tolist() == [3, 2, 4, 1, 0]
    assert (by_vote > 0).tolist() == [True, True, True, False, True]
    assert (score(tally, y, "mean") > 0).tolist() == [True, True, False, True, True]
    # For the other label the same tie is lost.
    other = torch.ones(5, dtype=torch.int64)
    assert (score(tally, other, "majority") > 0).tolist() == [
        False,
        False,
        False,
        True,
        False,
    ]


def test_a_record_whose_parts_disagree_is_refused(tiny, trained):
    table = evaluated(tiny(*FEW, *MOVED[:2], "evaluate.samples=[1]"), trained).to_table()
    Evaluation(**json.loads(json.dumps(table)))
    for path, value, words in [
        (("corruptions", "means", 0, "accuracy"), 0.999, "lies outside|not that of the rows"),
        (("corruptions", "rows"), [], "is missing"),
        (("corruptions", "means", 0, "mce"), {"value": 0.5}, "mean corruption error"),
        (("corruptions", "means", 0, "mce"), {"value": 0.5, "low": 0.6, "high": 0.7}, "outside its interval"),
        (("corruptions", "outcomes", "right", "1", "majority", "contrast", 0), 9, "not those of the images"),
        (("shifts", "rows", 0, "held"), 0.987, "not that of the images"),
        (("shifts", "points", "1", "majority"), [0], "do not fit it"),
    ]:
        forged = json.loads(json.dumps(table))
        part = forged
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        with pytest.raises(ValueError, match=words):
            Evaluation(**forged)
