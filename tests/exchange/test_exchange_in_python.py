"""Import and export as functions: what one writes the other reads, and each returns what a notebook shows."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import TINY, checkpoint_of, finetuned

import rushkit
from rushkit.errors import UsageError
from rushkit.recipe.load import load_recipe

SMALL = [change for change in TINY if "backbone" not in change]


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A checkpoint of a small network, and the working folder of the test."""
    monkeypatch.chdir(tmp_path)
    changes = [*SMALL, "finetune.freeze=none", "finetune.epochs=1", "data.limit=20"]
    return checkpoint_of(finetuned(load_recipe("digits", changes, {}), None))


def imported(name: str = "theirs", **options):
    recipe = rushkit.import_recipe(name, "digits", "resnet10-small", ["data.image_size=8", "system.device=cpu"])
    return rushkit.import_model(recipe, "model.safetensors", **{"check": 20, **options})


def test_a_model_that_was_exported_and_imported_computes_the_same(model):
    rushkit.export(model, "model.safetensors")
    again = rushkit.open_checkpoint(imported().run, "finetune")
    assert again.tensors.keys() <= model.tensors.keys()
    assert all(torch.equal(tensor, model.tensors[name]) for name, tensor in again.tensors.items())


def test_an_export_is_a_record_that_a_notebook_shows(model):
    exported = rushkit.export(model, "model.safetensors", part="encoder")
    assert "exported encoder, timm" in exported._repr_html_()
    assert [row["figure"] for row in exported.to_rows()] == ["difference", "largest_output"]


def test_an_import_is_a_record_with_its_clean_accuracy(model):
    rushkit.export(model, "model.safetensors")
    record = imported()
    (row,) = record.to_rows()
    assert (row["figure"], row["images"], row["data"]) == ("accuracy", 20, "digits/test")
    assert "imported classifier theirs" in record._repr_html_()


def test_an_import_that_was_not_checked_has_no_figure(model):
    rushkit.export(model, "model.safetensors")
    assert imported(check=0).to_rows() == []


def test_an_encoder_alone_is_imported_for_fine_tuning(model):
    rushkit.export(model, "model.safetensors")
    record = imported(encoder_only=True)
    assert record.makes == "encoder"
    assert rushkit.open_checkpoint(record.run, "pretrain").meta["stage"] == "pretrain"


def test_a_file_that_is_there_is_replaced_only_by_force(model):
    rushkit.export(model, "model.safetensors")
    with pytest.raises(UsageError, match="exists already"):
        rushkit.export(model, "model.safetensors")
    assert rushkit.export(model, "model.safetensors", force=True).file == "model.safetensors"


def test_the_ending_of_a_file_must_be_that_of_its_format(model):
    with pytest.raises(UsageError, match=r"does not end in \.safetensors"):
        rushkit.export(model, "model.bin")
