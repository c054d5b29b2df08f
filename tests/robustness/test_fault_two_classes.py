"""Attacks that need more classes than a model has are refused before the first pass."""

from __future__ import annotations

import pytest
from tiny_runs import QUIET, checkpoint_of, finetuned, folder_of_images

from rushkit.errors import UsageError
from rushkit.recipe.schema import Attack
from rushkit.robustness.attack import attack
from rushkit.setup.start import start_run


@pytest.fixture
def two_classes(tiny, tmp_path):
    """A recipe and a model of two classes."""
    root = folder_of_images(tmp_path / "images", classes=2)
    recipe = tiny("data.name=folder", f"data.path={root}", "data.limit=0", "finetune.epochs=1", "finetune.batch_size=4")
    return recipe, checkpoint_of(finetuned(recipe, None))


def test_all_of_them_are_named_at_once_and_nothing_runs(two_classes):
    recipe, model = two_classes
    kinds = ({"type": "pgd"}, {"type": "torchattacks/apgdt"}, {"type": "apgd", "loss": "dlr"})
    asked = recipe.model_copy(update={"attack": [Attack(**kind, limit=2, samples=[1]) for kind in kinds]})
    with start_run("attack", asked, QUIET, parent=str(model.path)) as run:
        with pytest.raises(UsageError) as refused:
            attack(asked, model, run, ("paper",))
        assert "2 of 3 attacks cannot run" in refused.value.message
        assert "attack.1 (torchattacks/apgdt): apgdt needs 4 classes (the model has 2)" in refused.value.message
        assert "attack.2 (apgd): dlr needs 3 classes (the model has 2)" in refused.value.message
        assert not (run.path / "counts").exists()


@pytest.mark.parametrize("kind", [{"type": "apgdt"}, {"type": "torchattacks/apgd", "loss": "dlr"}])
def test_a_single_one_is_refused_with_what_to_use_instead(two_classes, kind):
    recipe, model = two_classes
    asked = recipe.model_copy(update={"attack": [Attack(**kind, limit=2, samples=[1])]})
    with start_run("attack", asked, QUIET, parent=str(model.path)) as run:
        with pytest.raises(UsageError, match="classes \\(the model has 2\\)") as refused:
            attack(asked, model, run, ("paper",))
        assert refused.value.hint == "use pgd, or autoattack, which leaves out what needs more"
        assert not (run.path / "counts").exists()
