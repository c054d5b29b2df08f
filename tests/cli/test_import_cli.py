"""``rushkit import`` and ``rushkit export`` as a user meets them, and the commands of their page."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import public_networks
import pytest
import torch
from commands import only, sets
from later_words import replacing
from public_networks import deacl, solo
from torch import nn

from rushkit import noises, registries
from rushkit.cli.complete import complete_backbones
from rushkit.models.network import build_backbone
from rushkit.setup.model import load

PAGE = (Path(__file__).parents[2] / "docs" / "import-export.md").read_text(encoding="utf-8")
SMALL = ("--backbone", "resnet10-small", "--data", "digits", *sets("data.image_size=8"))


@pytest.fixture
def weights(folder):
    """A file of random weights of a resnet10-small with a head for ten classes."""
    model = nn.ModuleDict({"model": build_backbone("resnet10-small", {}, 3, 8, 0)})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model["fc"] = nn.Linear(128, 10)
    torch.save(model.state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


@pytest.fixture
def imported(cli, weights):
    assert cli("import", "weights.pt", *SMALL, "--check", "20", "-q").code == 0


def test_backbones_are_offered_by_their_beginning():
    assert [name for name, _ in complete_backbones("t")] == ["timm/", "torchvision/"]
    assert "resnet18" in dict(complete_backbones(""))


def test_import_prints_what_it_made_and_what_comes_next(cli, weights):
    said = cli("import", "weights.pt", *SMALL, "--mean", "0.5,0.5,0.5", "--std", ".2,.2,.2", "--name", "theirs")
    assert said.code == 0, said.err
    run = only(Path("runs"), "import")
    for words in ("imported classifier theirs", "weights.pt", "(x - [0.5, 0.5, 0.5]) / [0.2, 0.2, 0.2]", "none"):
        assert words in said.out
    for words in ("the prefix 'model' is taken off", "the head is 'fc': 10 classes", "no noise", f"--from {run}"):
        assert words in said.out
    assert re.fullmatch(r"\d{8}-\d{6}-import-theirs-[0-9a-f]{6}", run.name)


def test_a_quiet_import_says_its_run_as_a_quiet_training_does(cli, weights):
    said = cli("import", "weights.pt", *SMALL, "-q")
    run = only(Path("runs"), "import")
    assert f"run: {run}\nnext: rushkit evaluate --from {run}\n" in said.out


def test_import_json_is_one_document_and_the_same_as_the_file(cli, weights):
    said = cli("import", "weights.pt", *SMALL, "--check", "20", "--json", "-q")
    found = json.loads(said.out)
    assert found == json.loads((Path(found["run"]) / "results.json").read_text()) | {"run": found["run"]}
    assert found["clean"]["images"] == 20


@pytest.mark.usefixtures("imported")
def test_every_verb_takes_an_imported_model(cli, fails):
    few = ("--limit", "4", *sets("data.limit=8"))
    assert cli("evaluate", "--from", "weights", "-q", *sets("data.limit=8")).code == 0
    said = cli("attack", "--from", "weights", *few, "--json", "-q")
    assert said.code == 0, said.err
    assert {row["samples"] for row in json.loads(said.out)["attacks"]} == {1}
    audited = cli("audit", "--from", "weights", "--limit", "4", "--steps", "2", "--queries", "3", "--json", "-q")
    checks = {check["code"]: check for check in json.loads(audited.out)["checks"]}
    for code in ("RK101", "RK105", "RK116", "RK117"):
        assert (checks[code]["status"], checks[code]["says"]) == (
            "skipped",
            "there is no noise: every draw is the same",
        )
    assert "without noise there is nothing to certify" in fails(2, "certify", "--from", "weights", *few).err
    gaussian = sets("noise.name=gaussian", "noise.std=0.25", "certify.selection=10")
    said = cli("certify", "--from", "weights", *few, "--samples", "50", *gaussian)
    assert said.code == 0, said.err
    assert "imported with noise none, which nothing here can confirm" in said.err
    assert cli("probe", "--from", "weights", "--limit", "2", "--steps", "1", "-q").code == 0
    said = cli("report", "weights", "--json", "-q")
    assert said.code == 0, said.err
    assert "imported" in json.dumps(json.loads(said.out))
    assert "import" in cli("runs", "list").out


def test_an_imported_encoder_is_fine_tuned_by_its_name(cli, fails, weights):
    assert cli("import", "weights.pt", *SMALL, "--encoder-only", "--name", "theirs", "-q").code == 0
    run = only(Path("runs"), "import")
    said = fails(2, "evaluate", "--from", str(run))
    assert "is a run of import, which stands for one of pretrain; this needs one of finetune" in said.err
    assert f"rushkit finetune --from {run}" in said.err
    tiny = sets("finetune.epochs=1", "data.limit=16", "finetune.batch_size=8")
    assert cli("finetune", "--from", "theirs", "--dry-run", *tiny).code == 0
    assert cli("finetune", "--from", "theirs", "-q", *tiny).code == 0
    assert cli("evaluate", "--from", "theirs", "-q", *sets("data.limit=8")).code == 0


@pytest.mark.parametrize(("asked", "branch"), [((), "adversarial"), (("--branch", "clean"), "clean")])
def test_a_branch_is_said_and_recorded(cli, folder, asked, branch):
    encoder = build_backbone("resnet10-small", {}, 3, 8, 0).state_dict()
    layers = {name.removesuffix(".running_mean") for name in encoder if name.endswith(".running_mean")}
    several = {
        f"{layer}.bn_list.{number}.{part}" if layer in layers else name: tensor
        for name, tensor in encoder.items()
        for layer, _, part in [name.rpartition(".")]
        for number in range(2)
    }
    torch.save(several, folder / "acl.pt")
    said = cli("import", "acl.pt", *SMALL, "--encoder-only", *asked)
    assert said.code == 0, said.err
    assert f"the BatchNorm set of the {branch} branch is taken" in said.out
    facts = json.loads((only(Path("runs"), "import") / "run.json").read_text(encoding="utf-8"))
    assert facts["imported"]["branch"] == branch


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "name a file of weights, or --pretrained"),
        (("weights.pt", "--pretrained"), 2, "and not both"),
        (("nowhere.pt",), 1, "nowhere.pt cannot be read"),
        (("weights.pt", "--mean", "a,b,c"), 2, "--mean 'a,b,c' is not a list of numbers"),
        (("weights.pt", "--mean", "0.5,0.5,0.5"), 2, "--mean and --std belong together"),
        (("weights.pt", "--std", "0.5,0.5,0.5"), 2, "--mean and --std belong together"),
        (("weights.pt", "--mean", ".5,.5", "--std", ".5,.5"), 2, "3 channels"),
        (("weights.pt", "--branch", "clean"), 2, "--branch clean: the file has one set of BatchNorm layers"),
        (("weights.pt", "--branch", "other"), 2, "adversarial"),
        (("weights.pt", "--rename", "x"), 2, "OLD=NEW"),
        (("weights.pt", "--ignore", "x*"), 2, "no tensor matches --ignore x*"),
        (("weights.pt", "--keys", "nowhere.toml"), 2, "nowhere.toml cannot be read"),
        (("weights.pt", "--backbone", "resnet18"), 1, "the tensors do not fit the backbone"),
        (("weights.pt", "--backbone", "resnet99"), 2, "unknown backbone"),
        (("weights.pt", "--backbone", "torchvision/resnet99"), 2, "no classification model"),
        (("weights.pt", "--data", "nowhere"), 2, "unknown data set"),
        (("weights.pt", "--data", "cifar100"), 2, "the head has 10 classes, and cifar100 has 100"),
        (("weights.pt", *sets("noise.scale=0.3")), 2, "noise.scale"),
        (("--pretrained", "--backbone", "resnet18"), 2, "has no pretrained weights"),
    ],
)
def test_mistakes_leave_no_run(fails, weights, arguments, code, says):
    said = fails(code, "import", *replacing(SMALL, arguments))
    assert says in said.err
    assert not list(Path("runs").glob("*"))


@pytest.mark.usefixtures("imported")
def test_export_prints_the_lines_and_refuses_to_overwrite(cli, fails):
    said = cli("export", "--from", "weights", "--to", "model.safetensors")
    assert said.code == 0, said.err
    assert "timm.models.load_checkpoint(model, 'model.safetensors')" in said.out
    assert "exists already" in fails(2, "export", "--to", "model.safetensors").err
    said = cli("export", "--to", "model.safetensors", "--force", "--part", "encoder", "--json", "-q")
    assert json.loads(said.out)["part"] == "encoder"


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", "model.pt"), "does not end in .safetensors"),
        (("--to", "model.safetensors", "--format", "onnx"), "does not end in .onnx"),
        (("--to", "model.onnx", "--from", "nowhere"), "no finished run of finetune or pretrain of recipe 'nowhere'"),
    ],
)
def test_what_cannot_be_exported(fails, arguments, says):
    assert says in fails(2, "export", *arguments).err


class TestPage:
    def test_every_command_works_as_pasted(self, cli, weights):
        content = torch.load(weights, weights_only=True)
        torch.save(content, "cohen.pt")
        keys = {f"encoder_q.{name.removeprefix('model.')}": tensor for name, tensor in content.items()}
        torch.save(keys | {"queue": torch.zeros(3), "queue_ptr": torch.zeros(1)}, "moco.pt")
        block = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[0]
        # On the embedded digits, with a small network, and less of everything.
        less = {
            "import": ["--check", "8", *sets("data.image_size=8", "data.limit=16")],
            "attack": ["--limit", "2"],
            "audit": ["--limit", "2", "--steps", "2", "--eot", "1", "--queries", "2"],
            "certify": ["--samples", "20", "--limit", "2"],
            "finetune": sets("finetune.epochs=1", "finetune.batch_size=8"),
        }
        for line in block.replace("cifar10", "digits").replace("resnet18", "resnet10-small").splitlines():
            _, verb, *words = shlex.split(line)
            said = cli(*replacing([verb, *words], less.get(verb, [])), "-q")
            # An audit of random weights may fail its checks, which is its result.
            assert said.code == 0 or verb == "audit", said.err
            assert "error" not in said.err

    def test_a_network_of_ones_own_is_imported_as_the_page_says(self, cli, folder):
        section = PAGE[PAGE.index("## Weights of another network") : PAGE.index("## Published pre-training")]
        (code,), (block,) = (re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL) for kind in ("python", "sh"))
        Path("plain_net.py").write_text(code)
        namespace = {}
        with registries.backbones.restored():
            exec(code, namespace)
            net = namespace["PlainNet"]()
        state = net.state_dict() | {"classifier.weight": torch.zeros(10, 32), "classifier.bias": torch.zeros(10)}
        torch.save({"model": state}, "plain.pt")
        few = sets("data.limit=8", "data.image_size=8")
        first, second = block.replace("cifar10", "digits").splitlines()
        for line, more in ((first, ("--check", "8", *few)), (second, few[:2])):
            said = cli(*shlex.split(line)[1:], *more, "-q")
            assert said.code == 0, said.err
        assert list(only(Path("runs"), "import").glob("checkpoints/*"))

    def test_the_commands_for_published_files_work_as_pasted(self, cli, folder):
        for name, content in (("acl.pt", public_networks.acl()), ("solo.ckpt", solo()), ("deacl.ckpt", deacl())):
            torch.save(content, name)
        few = ("data.image_size=8", "data.limit=8")
        less = {
            "import": ["--data", "digits", "--check", "8", *sets(*few)],
            "finetune": sets(
                "data.name=digits", "finetune.epochs=1", "finetune.batch_size=8", "finetune.steps=1", *few
            ),
        }
        blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[2:]
        lines = [line for block in blocks for line in block.splitlines()]
        assert len(lines) == 6
        for line in lines:
            _, verb, *words = shlex.split(line)
            said = cli(*replacing([verb, *words], less[verb]), "-q")
            assert said.code == 0, said.err

    def test_the_rules_of_the_page_are_rules(self, folder):
        from rushkit.exchange.rules import Rules, read_rules

        (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
        Path("keys.toml").write_text(block)
        renames = {"encoder_q": "", "*.shortcut": "*.downsample"}
        assert read_rules("keys.toml") == Rules(renames, ("projector*", "queue*"))

    def test_the_votes_of_the_page_are_those_of_rushkit(self, cli, imported):
        assert cli("export", "--from", "weights", "--to", "model.onnx", "-q").code == 0
        _, block = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        namespace = {}
        exec(block, namespace)
        images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        classes, votes = namespace["vote"](images.numpy(), samples=400)
        g = load("weights", samples=400)
        g.noise = noises.create("gaussian", std=0.25)
        ours = g.votes(images).numpy()
        assert (votes.sum(axis=1) == 400).all()
        assert (classes == votes.argmax(axis=1)).all()
        # Standard error of the difference of two shares: 0.036 at most. Six of them: 2e-9 for each of 60 shares.
        assert np.abs(votes - ours).max() / 400 < 6 * np.sqrt(0.5 / 400)
