"""Data that do not fit the model are refused wherever the two meet: a radius of other images would be false."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_runs import QUIET, TINY, checkpoint_of, finetuned, folder_of_images

from rushkit.auditing.audit import audit
from rushkit.auditing.plan import Settings
from rushkit.certification.certify import certify
from rushkit.data.memory import Split
from rushkit.errors import UsageError
from rushkit.evaluation.evaluate import evaluate
from rushkit.evaluation.probe import Ball, probe
from rushkit.recipe.load import load_recipe
from rushkit.robustness.attack import attack
from rushkit.setup.start import start_run
from rushkit.setup.subject import check_classes, check_images

STAGES = {
    "certify": certify,
    "evaluate": evaluate,
    "attack": attack,
    "audit": lambda recipe, source, run: audit(recipe, source, Settings("linf", 0.05, steps=1), run),
    "probe": lambda recipe, source, run: probe(recipe, source, Ball(steps=1), run),
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """``recipe("data.image_size=12")``: the tiny recipe with changes."""
    runs_dir = tmp_path_factory.mktemp("fit") / "runs"

    def make(*changes):
        few = ("certify.samples=20", "certify.limit=2", "certify.selection=5", "finetune.epochs=1")
        return load_recipe("digits", [*TINY, *few, f"system.runs_dir={runs_dir}", *changes], {})

    return make


@pytest.fixture(scope="module")
def model(recipe):
    """Of 8x8 digits; the fixture of the toy backbone is one for each test, so this has one of its own."""
    return checkpoint_of(finetuned(recipe("backbone.name=resnet10-small"), None))


def run_stage(name, recipe, source):
    with start_run(name, recipe, QUIET, parent=str(source.path)) as run:
        return STAGES[name](recipe, source, run), run


@pytest.mark.parametrize("stage", STAGES)
def test_images_of_another_size_are_refused_with_both_sizes_and_the_fix(stage, recipe, model):
    with pytest.raises(UsageError, match="are 3x12x12, and the model takes 3x8x8") as caught:
        run_stage(stage, recipe("data.image_size=12"), model)
    assert caught.value.hint == "--set data.image_size=8"


def test_the_dimension_of_a_certificate_is_that_of_the_images(recipe, model):
    _, run = run_stage("certify", recipe(), model)
    header = json.loads((run.path / "counts" / "certify.jsonl").read_text().splitlines()[0])
    assert header["subject"]["dim"] == 3 * 8 * 8


def test_grey_and_oblong_images_are_refused_too():
    for shape in ((1, 8, 8), (3, 8, 16)):
        with pytest.raises(UsageError, match="the model takes 3x8x8"):
            check_images(Split(torch.zeros(2, *shape, dtype=torch.uint8), None, "odd"), (3, 8))


LABELLED = tuple(stage for stage in STAGES if stage != "probe")


@pytest.mark.parametrize("stage", LABELLED)
def test_a_data_set_of_other_classes_is_refused_and_the_first_difference_named(stage, recipe, model, tmp_path):
    folder_of_images(tmp_path / "set", classes=3, images=2)
    other = recipe("data.name=folder", f"data.path={tmp_path / 'set'}")
    with pytest.raises(UsageError, match="class 0 of set is 'class0', and of the model 'zero'") as caught:
        run_stage(stage, other, model)
    assert caught.value.hint.startswith("fine-tune on set")


@pytest.mark.parametrize(
    "theirs, said",
    [
        (("cat", "deer", "dog"), "class 1 of some is 'deer', and of the model 'dog'"),
        (("cat", "dog"), "class 2 of some is missing, and of the model 'deer'"),
        (("cat", "dog", "deer", "frog"), "class 3 of some is 'frog', and of the model missing"),
    ],
)
def test_order_and_number_of_classes_count(theirs, said):
    with pytest.raises(UsageError, match=said):
        check_classes("some", theirs, ("cat", "dog", "deer"))


def test_another_data_set_of_the_same_classes_is_evaluated(recipe, tmp_path):
    for name in ("one", "other"):
        folder_of_images(tmp_path / name, classes=3, images=8)
    chosen = recipe("data.name=folder", "backbone.name=resnet10-small", f"data.path={tmp_path / 'one'}")
    trained = checkpoint_of(finetuned(chosen, None))
    results, _ = run_stage("evaluate", recipe("data.name=folder", f"data.path={tmp_path / 'other'}"), trained)
    assert len(results.outcomes.labels) == 24
