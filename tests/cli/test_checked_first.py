"""A wrong command line is said to be wrong where there is no run that it could work on."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("attack --eps 8/0", "--eps: attack.0.eps: must be a number such as 0.03 or 8/255 (got '8/0')"),
        ("attack --eps far", "--eps: attack.0.eps: must be a number such as 0.03 or 8/255 (got 'far')"),
        ("attack --type pdg", "--type: attack.0.type: unknown attack 'pdg' (did you mean pgd"),
        ("attack --norm l3", "--norm: attack.0.norm: must be 'linf', 'l2' or 'l1' (got 'l3')"),
        ("attack --samples 0", "--samples: attack.0.samples.0: must be greater than or equal to 1 (got 0)"),
        ("attack --set eps=8/255", "--set eps: unknown key"),
        ("certify --radius far", "--radius: certify.radii.0: must be a number such as 0.03 or 8/255 (got 'far')"),
        ("certify --radius -1", "--radius: certify.radii.0: must be greater than or equal to 0"),
        ("certify --alpha 2", "--alpha: certify.alpha: must be less than 1 (got 2.0)"),
        ("certify --set noise.name=gausian", "--set noise.name: unknown noise 'gausian'"),
        ("certify --from-counts nosuch --skip 0", "--skip: must be greater than or equal to 1 (got '0')"),
        ("audit --eps 8/0", "--eps: attack.0.eps: must be a number"),
        ("audit --norm l3", "--norm: attack.0.norm: must be 'linf', 'l2' or 'l1' (got 'l3')"),
        ("audit --set evalute.samples=1", "--set evalute.samples: evalute: unknown key; did you mean evaluate?"),
        ("evaluate --samples 0", "--samples: evaluate.samples.0: must be greater than or equal to 1 (got 0)"),
        ("evaluate --set data.name=cifr10", "--set data.name: unknown data set 'cifr10'"),
        ("predict photo.png --alpha 0", "--alpha: certify.alpha: must be greater than 0 (got 0.0)"),
        ("predict photo.png --set certify.rule=most", "--set certify.rule: must be 'majority' or 'mean' (got 'most')"),
        ("probe --eps 8/0", "--eps: attack.0.eps: must be a number"),
        ("probe --norm l3", "--norm: attack.0.norm: must be 'linf', 'l2' or 'l1' (got 'l3')"),
        ("finetune --to nosuch", "'nosuch' is neither a recipe nor a data set"),
        ("finetune --to nosuch.toml", "there is no recipe file nosuch.toml"),
        ("finetune --set finetune.epochs=0", "--set finetune.epochs: must be greater than or equal to 1 (got 0)"),
        ("finetune --set finetune.objective=rsh", "--set finetune.objective: unknown objective 'rsh'"),
        ("finetune --every 0", "--every: finetune.save_every: must be a number of epochs"),
    ],
)
def test_the_command_line_is_checked_before_runs_are_looked_for(fails, folder, arguments, message):
    assert not (folder / "runs").exists()
    assert f"error: {message}" in fails(2, *arguments.split()).err
