from __future__ import annotations

import json
import math

import pytest
import torch
from tiny_runs import QUIET, checkpoint_of, finetuned, folder_of_images, pretrained

import rushkit
from rushkit.errors import CheckpointError, DataError, UsageError
from rushkit.evaluation.evaluate import evaluate, per_class_accuracy
from rushkit.results.intervals import accuracy_row
from rushkit.run.checkpoint import load_checkpoint, save_checkpoint
from rushkit.setup import components
from rushkit.setup.model import load, load_classifier, recipe_of
from rushkit.setup.start import component_owners, machine_of, start_run

pytestmark = pytest.mark.usefixtures("untouched_global_state")


@pytest.fixture
def model(tiny):
    """A fine-tuned checkpoint and its recipe."""
    recipe = tiny("pretrain.epochs=1", "finetune.optimizer.lr=1.0")
    source = checkpoint_of(pretrained(recipe))
    return recipe, checkpoint_of(finetuned(recipe, source))


def evaluated(recipe, checkpoint) -> dict:
    with start_run("evaluate", recipe, QUIET, parent=str(checkpoint.path)) as run:
        results = evaluate(recipe, checkpoint, run)
    table = results.to_json()
    assert json.loads((run.path / "results.json").read_text()) | {"run": str(run.path)} == table
    return table


def wilson(correct: int, total: int) -> tuple[float, float]:
    z, p = 1.959963984540054, correct / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return middle - half, middle + half


def test_results_hold_every_m_and_rule_with_intervals_and_classes(tiny, model):
    _, checkpoint = model
    results = evaluated(tiny("evaluate.samples=[4, 1, 4]"), checkpoint)
    assert [(row["samples"], row["rule"]) for row in results["accuracy"]] == [
        (1, "majority"),
        (1, "mean"),
        (4, "majority"),
        (4, "mean"),
    ]
    assert (results["data"], results["noise"]) == ("digits/test", {"name": "uniform", "scale": 0.3})
    labels = results["outcomes"]["labels"]
    for row in results["accuracy"]:
        predicted = results["outcomes"]["predicted"][str(row["samples"])][row["rule"]]
        right = [one == other for one, other in zip(predicted, labels, strict=True)]
        assert (row["correct"], row["images"]) == (sum(right), 48)
        assert row["accuracy"] == sum(right) / 48
        assert (row["low"], row["high"]) == pytest.approx(wilson(sum(right), 48))
        for index, share in enumerate(row["per_class"].values()):
            own = [hit for hit, label in zip(right, labels, strict=True) if label == index]
            assert share == (sum(own) / len(own) if own else None)


def test_one_draw_gives_the_same_by_both_rules(model):
    rows = evaluated(*model)["accuracy"]
    assert rows[0]["correct"] == rows[1]["correct"]


def test_the_same_seed_gives_the_same_outcomes_and_another_seed_others(tiny, model):
    _, checkpoint = model
    first, again, other = (evaluated(tiny(f"system.seed={seed}"), checkpoint)["outcomes"] for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_chunk_changes_no_outcome(tiny, model, chunk):
    recipe, checkpoint = model
    found, expected = evaluated(tiny(f"system.chunk={chunk}"), checkpoint), evaluated(recipe, checkpoint)
    assert found.pop("run") != expected.pop("run")
    assert found == expected


def test_a_larger_limit_keeps_the_other_images_outcomes_to_the_block(tiny, model):
    _, checkpoint = model
    assert len(evaluated(tiny("data.limit=0"), checkpoint)["outcomes"]["labels"]) == 360


def test_a_pretrained_checkpoint_has_no_classifier(tiny):
    recipe = tiny("pretrain.epochs=1")
    source = checkpoint_of(pretrained(recipe))
    with pytest.raises(CheckpointError, match="is of stage 'pretrain', and has no classifier") as raised:
        load_classifier(source, machine_of(recipe))
    assert raised.value.hint == f"fine-tune it first: rushkit finetune --from {source.path}"


def test_a_checkpoint_without_a_recipe_is_named(tmp_path):
    save_checkpoint(tmp_path / "bare.safetensors", {"a": torch.ones(1)}, {"stage": "finetune"})
    with pytest.raises(CheckpointError, match=r"bare.safetensors does not hold a recipe"):
        recipe_of(load_checkpoint(tmp_path / "bare.safetensors"))


def test_a_checkpoint_that_lacks_what_it_should_hold_is_named(model, tmp_path):
    recipe, checkpoint = model
    meta = {key: value for key, value in checkpoint.meta.items() if key != "classes"}
    save_checkpoint(tmp_path / "some.safetensors", checkpoint.tensors, meta)
    with pytest.raises(CheckpointError, match=r"some.safetensors"):
        load_classifier(load_checkpoint(tmp_path / "some.safetensors"), machine_of(recipe))


def test_a_checkpoint_with_a_tensor_too_few_is_named(model, tmp_path):
    recipe, checkpoint = model
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name != "encoder.1.bias"}
    save_checkpoint(tmp_path / "some.safetensors", tensors, checkpoint.meta)
    with pytest.raises(CheckpointError, match=r"encoder differs from the recipe's: 1.bias"):
        load_classifier(load_checkpoint(tmp_path / "some.safetensors"), machine_of(recipe))


def test_a_loaded_model_votes_as_the_evaluation_says(model):
    recipe, checkpoint = model
    g = load(checkpoint.path, samples=8, seed=0)
    assert isinstance(g, rushkit.SmoothedClassifier)
    assert not any(parameter.requires_grad for parameter in g.parameters())
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(g.votes(x).sum(dim=1), torch.full((3,), 8))
    assert torch.equal(
        rushkit.load(str(checkpoint.path.parent.parent), samples=8, seed=0).votes(x),
        load(checkpoint.path, samples=8, seed=0).votes(x),
    )
    assert torch.equal(
        load("digits", runs_dir=recipe.system.runs_dir, samples=8, seed=0)(x),
        load(checkpoint.path, samples=8, seed=0)(x),
    )


def test_data_with_more_classes_than_the_model_is_refused(tiny, model, tmp_path):
    _, checkpoint = model
    folder_of_images(tmp_path / "set", classes=12, images=2)
    other = tiny("data.name=folder", f"data.path={tmp_path / 'set'}")
    with pytest.raises(DataError, match="has label 11, and the model has 10 classes"):
        evaluated(other, checkpoint)


def test_a_split_that_is_not_there_is_named(tiny, model):
    _, checkpoint = model
    with pytest.raises(UsageError, match="digits has no split 'dev'") as raised:
        evaluated(tiny("evaluate.split=dev"), checkpoint)
    assert raised.value.hint == "it has: train, test; --split chooses one"
    with pytest.raises(UsageError, match="there is no validation split"):
        evaluated(tiny("evaluate.split=validation"), checkpoint)


def test_a_class_without_images_has_no_accuracy():
    right, labels = torch.tensor([True, False, True]), torch.tensor([0, 0, 2])
    assert per_class_accuracy(right, labels, ("a", "b", "c")) == {"a": 0.5, "b": None, "c": 1.0}


@pytest.mark.parametrize("correct", [0, 3, 10])
def test_an_accuracy_has_its_wilson_interval(correct):
    row = accuracy_row(torch.arange(10) < correct)
    assert (row["correct"], row["images"], row["accuracy"], row["confidence"]) == (correct, 10, correct / 10, 0.95)
    assert (row["low"], row["high"]) == pytest.approx(wilson(correct, 10), abs=1e-12)


def test_a_run_tells_what_it_was_made_with(tiny):
    recipe = tiny("system.seed=3")
    with start_run("pretrain", recipe, QUIET, parent="somewhere") as run:
        data = json.loads((run.path / "run.json").read_text())
    assert (data["seed"], data["device"], data["precision"], data["parent"]) == (3, "cpu", "float32", "somewhere")
    assert data["owners"] == component_owners(recipe)
    assert data["owners"]["data set digits"] == "rushkit"


def test_a_run_with_an_unknown_component_leaves_no_folder(tiny, tmp_path):
    with pytest.raises(UsageError, match="unknown backbone 'nothing'"):
        start_run("pretrain", tiny("backbone.name=nothing"), QUIET)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("device", ["quantum", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there_is_named(tiny, tmp_path, device):
    with pytest.raises(UsageError, match=r"device .* cannot be used") as raised:
        start_run("pretrain", tiny(f"system.device={device!r}"), QUIET)
    assert raised.value.hint == "use auto, cpu, cuda, cuda:1 or mps"
    assert not (tmp_path / "runs").exists()


def test_a_recipe_asks_its_data_set_for_the_size(tiny):
    recipe = tiny("data.image_size=12")
    dataset = components.build_dataset(recipe)
    assert components.image_size(recipe, dataset) == 12
    assert components.load_split(recipe, dataset, "test").images.shape == (48, 3, 12, 12)


def test_a_limit_changes_neither_an_image_nor_its_draws(tiny, model):
    _, checkpoint = model
    whole, part = (evaluated(tiny(f"evaluate.limit={n}"), checkpoint)["outcomes"] for n in (0, 7))
    assert "indices" not in whole or whole["indices"] == []
    assert len(part["indices"]) == 7
    assert part["labels"] == [whole["labels"][index] for index in part["indices"]]
    for samples, rules in part["predicted"].items():
        for rule, predicted in rules.items():
            assert predicted == [whole["predicted"][samples][rule][index] for index in part["indices"]]
