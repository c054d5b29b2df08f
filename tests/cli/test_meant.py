"""What is said of an option that a command does not have, and of a word that lacks its ``--set``."""

from __future__ import annotations

import pytest
from commands import sets

MEANT = {
    "pretrain --noise gaussian": "did you mean --set noise.name=gaussian --set noise.std=...?",
    "pretrain --noise uniform": "did you mean --set noise.name=uniform?",
    "pretrain --model resnet18": "did you mean --set backbone.name=resnet18?",
    "pretrain --objective": "did you mean --set pretrain.objective=...?",
    "pretrain --optimizer adamw": "did you mean --set pretrain.optimizer.name=adamw?",
    "pretrain --pretrain.epochs=3": "did you mean --set pretrain.epochs=3?",
    "pretrain --Pretrain.Batch-Size=3": "did you mean --set pretrain.batch_size=3?",
    "pretrain --recipe digits pretrain.epochs=3": "did you mean --set pretrain.epochs=3?",
    "pretrain --recipe digits epochs=3": "did you mean --epochs 3?",
    "pretrain --set pretrain.epochs 3": "did you mean --set pretrain.epochs=3?",
    "pretrain --batch 3": "did you mean --batch-size?",
    "pretrain --limit 30": "did you mean --set data.limit=30?",
    "finetune --learning-rate 3": "did you mean --lr?",
    "finetune --steps 3": "did you mean --set finetune.steps=3 (of pgd-at, smoothadv, smoothmix and 1 more) or --set "
    "finetune.validation.steps=3?",
    "attack --steps 3": "did you mean --set attack.0.steps=3 (of apgd, autoattack, fab and 1 more)?",
    "attack --attack pgd": "did you mean --type pgd?",
    "attack --epsilon 8/255": "did you mean --eps?",
    "certify --std 0.25": "did you mean --set noise.std=0.25",
    "recipe check digits epochs=3": "did you mean --set pretrain.epochs=3 or --set finetune.epochs=3?",
    # Nothing that a command has, or sets, is meant: who has it is said, and nothing is guessed.
    "evaluate --epochs 3": "--epochs is an option of pretrain, finetune",
    "evaluate --lr 0.1": "--lr is an option of pretrain, finetune",
    "runs list --device cpu": "--device is an option of demo, pretrain, finetune and",
    "certify --eps 3": "--eps is an option of attack, audit, probe",
    "bench --batch-size 3": "did you mean --batch?",
    "pretrain --bogus": "`rushkit pretrain --help` shows its options",
    "export --every 3": "--every is an option of pretrain, finetune",
}


@pytest.mark.parametrize("arguments", MEANT)
def test_what_was_meant(fails, folder, arguments):
    said = fails(2, *arguments.split())
    assert said.err.splitlines()[1].startswith(f"hint: {MEANT[arguments]}"), said.err
    assert said.out == ""


@pytest.mark.parametrize(
    "change, words",
    [
        ("epochs=3", "--set epochs: unknown key; did you mean pretrain.epochs or finetune.epochs?"),
        ("optimizer.lr=3", "unknown key; did you mean pretrain.optimizer.lr or finetune.optimizer.lr?"),
        ("pretrain.lr=3", "--set pretrain.lr: unknown key; did you mean pretrain.optimizer.lr?"),
        ("pretrain.epoch=3", "--set pretrain.epoch: unknown key; did you mean epochs?"),
        ("noise=gaussian", "--set noise: must be a table (got 'gaussian'); did you mean noise.name=gaussian?"),
        ("attack=pgd", "did you mean attack.0.type=pgd?"),
        ("noise.name=gaussian", "(got neither): say --set noise.std=... or --set noise.scale=..."),
        ("noise.name=laplace", "(got neither): say --set noise.std=... or --set noise.scale=..."),
    ],
)
def test_a_key_that_was_written_short(fails, folder, change, words):
    assert words in fails(2, "recipe", "check", "digits", "--set", change).err


@pytest.mark.parametrize("verb", ["finetune", "evaluate"])
def test_another_noise_of_an_earlier_run_asks_for_its_options(fails, runs, verb):
    assert "say --set noise.std=..." in fails(2, verb, "--set", "noise.name=gaussian").err


@pytest.mark.parametrize(
    "change, line",
    [
        ('noise={name="UNIFORM"}', 'name = "uniform"\nscale = 0.3'),
        ("noise.name=UNIFORM", 'name = "uniform"\nscale = 0.3'),
        ("backbone.name=ResNet18", 'name = "resnet18"'),
        ("backbone.name=TIMM/resnet18", 'name = "timm/resnet18"'),
        ("finetune.objective=TRADES", 'objective = "trades"'),
        ("attack.0.type=AutoAttack", 'type = "autoattack"'),
        ("attack.0.type=FGSM", 'type = "fgsm"'),
        ("attack.0.type=torchattacks/FGSM", 'type = "torchattacks/fgsm"'),
        ("data.name=CIFAR10", 'name = "cifar10"'),
    ],
)
def test_names_of_components_are_matched_without_case(cli, change, line):
    said = cli("recipe", "show", "Digits", "--resolved", "--set", change)
    assert said.code == 0, said.err
    assert line in said.out
    # No run is called by another spelling.
    assert said.out.splitlines()[1].startswith('name = "digits')
    assert change.partition("=")[2] not in said.out.splitlines()[1]


def test_types_norms_and_data_sets_too(cli, runs):
    said = cli("attack", "--type", "PGD", "--norm", "L2", "--eps", ".5", "--limit", "2", "--protocol", "PAPER", "-q")
    assert said.code == 0, said.err
    recipe = next(runs.glob("*-attack-*")) / "recipe.toml"
    assert 'type = "pgd"\nnorm = "l2"\neps = 0.5' in recipe.read_text()
    assert cli("data", "check", "Digits").code == 0
    assert cli("finetune", "--to", "DIGITS", "--dry-run", *sets("finetune.epochs=1")).code == 0
