"""A classifier of a single class is right whatever it sees: nothing trains, evaluates or certifies one."""

from __future__ import annotations

import pytest
from tiny_runs import checkpoint_of, finetuned, folder_of_images

from rushkit.auditing.audit import audit
from rushkit.certification.certify import certify
from rushkit.errors import DataError
from rushkit.evaluation.evaluate import evaluate
from rushkit.robustness.attack import attack
from rushkit.run.checkpoint import load_checkpoint, save_checkpoint


def of_folder(tmp_path, classes: int) -> tuple[str, ...]:
    folder = folder_of_images(tmp_path / f"pictures{classes}", classes=classes)
    changes = "finetune.freeze=none", "finetune.epochs=1", "finetune.batch_size=8", "certify.samples=20"
    return ("data.name=folder", f"data.path={folder}", "data.image_size=0", "data.limit=0", *changes)


def test_a_folder_of_one_class_is_not_trained_on(tiny, tmp_path):
    with pytest.raises(DataError, match="1 class is right whatever it sees"):
        finetuned(tiny(*of_folder(tmp_path, 1)), None)


@pytest.mark.parametrize("stage", [evaluate, certify, attack, audit])
def test_a_model_of_one_class_is_not_measured(tiny, tmp_path, stage):
    source = checkpoint_of(finetuned(tiny(*of_folder(tmp_path, 2)), None))
    tensors = {
        name: tensor[:1].clone() if name.startswith("head.") else tensor for name, tensor in source.tensors.items()
    }
    path = tmp_path / "one.safetensors"
    save_checkpoint(path, tensors, source.meta | {"classes": ["class0"]})
    with pytest.raises(DataError, match="1 class is right whatever it sees"):
        stage(tiny(*of_folder(tmp_path, 1)), load_checkpoint(path))
