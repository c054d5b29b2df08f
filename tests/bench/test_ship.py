"""benchmarks/ship.py turns a finished run into a model that comes with rushkit."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from tiny_runs import checkpoint_of, finetuned, pretrained

from rushkit.evaluation.evaluate import evaluate
from rushkit.run import shipped
from rushkit.setup.model import open_checkpoint

FILE = Path(__file__).parents[2] / "benchmarks" / "ship.py"


@pytest.fixture
def ship(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("ship", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / "package" / "shipped"
    folder.mkdir(parents=True)
    # Both modules look it up by this name.
    monkeypatch.setattr(shipped, "shipped_folder", lambda: folder)
    monkeypatch.setattr(module, "shipped_folder", lambda: folder)
    return module


def test_a_run_is_shipped_and_then_what_was_measured_of_it(ship, tiny, tmp_path):
    recipe, root = tiny("name=digits"), tmp_path / "runs"
    model = finetuned(recipe, checkpoint_of(pretrained(recipe)))
    again = [f"not measured yet: rushkit {verb} --from shipped/digits" for verb in ("evaluate", "attack")]
    assert ship.ship("digits", str(root)) == again
    checkpoint = open_checkpoint("shipped/digits", "finetune")
    weights = {name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith("encoder.")}
    for name, tensor in weights.items():
        original = checkpoint_of(model).tensors[name]
        assert torch.equal(tensor.float(), (original.half() if original.dim() > 1 else original).float())
    folder = tmp_path / "package" / "shipped"
    evaluate(recipe, checkpoint_of(model))
    assert ship.ship("digits", str(root)) == again[1:]
    assert "(of the weights before they were rounded to float16)" in (folder / "digits.md").read_text()
    # What was measured of the stored weights takes its place, and is not replaced in turn.
    evaluate(recipe, checkpoint)
    evaluate(recipe, checkpoint_of(model))
    assert ship.ship("digits", str(root)) == again[1:]
    assert "before they were rounded" not in (folder / "digits.md").read_text()
    assert sorted(path.name.split("-")[2] for path in folder.iterdir() if path.is_dir()) == [
        "evaluate",
        "finetune",
        "pretrain",
    ]
    assert "digits/test, m = 4, majority: " in (folder / "digits.md").read_text()
    assert all(str(tmp_path) not in path.read_text() for path in folder.rglob("*.[jtm]*"))
    assert str(tmp_path) not in json.dumps(checkpoint.meta)


def test_a_newer_model_of_the_name_takes_the_place_of_the_old(ship, tiny, tmp_path):
    recipe, root = tiny("name=digits"), tmp_path / "runs"
    encoder = checkpoint_of(pretrained(recipe))
    finetuned(recipe, encoder)
    ship.ship("digits", str(root))
    newer = finetuned(recipe, encoder)
    ship.ship("digits", str(root))
    assert shipped.shipped_models()["shipped/digits"].path.name == newer.path.name
    assert len([path for path in (tmp_path / "package" / "shipped").iterdir() if path.is_dir()]) == 2
