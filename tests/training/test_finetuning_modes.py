"""The recipes of linear and full fine-tuning train what they say, on clean or on attacked images."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import checkpoint_of, finetuned, pretrained

from rushkit.recipe.load import derive_recipe, transfer_recipe
from rushkit.run.metrics import read_metrics

pytestmark = pytest.mark.usefixtures("untouched_global_state")


@pytest.mark.parametrize("mode, whole", [("slf", False), ("alf", False), ("aff", True)])
def test_a_mode_of_fine_tuning_trains_the_head_or_all(tiny, mode, whole):
    changes = ("data.name=digits", "finetune.epochs=2", "finetune.batch_size=20")
    source = checkpoint_of(pretrained(tiny()))
    run = finetuned(tiny(*changes, recipe=mode), source)
    before, after = source.tensors, checkpoint_of(run).tensors
    encoder = {name for name in after if name.startswith("encoder.")}
    moved = {name for name in encoder if not torch.equal(after[name], before[name])}
    assert moved == (encoder if whole else set())
    assert after["head.weight"].abs().sum() > 0
    first = next(row for row in read_metrics(run.metrics.path) if row["kind"] == "step")
    if not whole:
        # The head starts at zero, so all ten classes are as likely, attacked or not.
        assert first["loss"] == pytest.approx(torch.tensor(10.0).log().item(), abs=1e-6)


def test_a_mode_is_a_target_of_any_encoder(tiny):
    recipe = derive_recipe(transfer_recipe(tiny(), "alf", 8), ["noise.name=none"], {})
    assert recipe.name == "digits+toy-to-alf+none"
    assert (recipe.finetune.objective, recipe.finetune.freeze) == ("pgd-at", "all")
    assert (recipe.backbone.name, recipe.noise.name) == ("toy", "none")
