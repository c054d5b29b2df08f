"""Imported models compute what they computed where they are from, and every stage takes them."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from tiny_runs import QUIET, checkpoint_of, toy
from torch import nn
from torch.nn import functional as F

import rushkit
from rushkit.certification.certify import certify
from rushkit.data import digits
from rushkit.data.memory import limit
from rushkit.errors import CheckpointError, NoCertificate, RushkitError, UsageError
from rushkit.evaluation.evaluate import evaluate
from rushkit.exchange import pretrained as stage
from rushkit.exchange.import_model import write_import
from rushkit.exchange.plan import import_recipe, plan_import
from rushkit.exchange.pretrained import pretrained_weights
from rushkit.exchange.rules import Rules
from rushkit.foreign.file import read_foreign
from rushkit.recipe.load import derive_recipe
from rushkit.recipe.schema import Attack
from rushkit.robustness.attack import attack
from rushkit.robustness.protocols import plan_attack
from rushkit.run.named import Wish, find_named, run_named
from rushkit.setup.model import load_classifier, open_checkpoint, recipe_of
from rushkit.setup.start import start_run
from rushkit.system import Machine, generator
from rushkit.training.finetune import finetune

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
CPU = Machine(torch.device("cpu"), "float32")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder: a derived recipe has its runs below it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make(tmp_path):
    """``make(weights, "timm/resnet10t")``: import a file or a module's state dict into a run of this test's own."""

    def run(weights, backbone, *changes, check=0, rules=Rules(), encoder_only=False, mean=(), std=(), name="theirs"):  # noqa: B008
        if isinstance(weights, nn.Module):
            path = tmp_path / "weights.pt"
            torch.save(weights.state_dict(), path)
            weights = path
        size = ("data.image_size=16",) if not any(change.startswith("data.image_size") for change in changes) else ()
        changes = (*size, f"system.runs_dir={tmp_path / 'runs'}", "system.device=cpu", *changes)
        recipe = import_recipe(name, "digits", backbone, changes, mean, std)
        plan = plan_import(recipe, read_foreign(weights), rules, encoder_only)
        with start_run("import", plan.recipe, QUIET) as made:
            write_import(plan, made, check)
        return made

    return run


def random_weights(model):
    """The model in eval mode with statistics of BatchNorm that are not those of the start."""
    draws = generator(0, "weights")
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_mean"):
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=draws))
            elif name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draws))
    return model.eval()


@pytest.fixture
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def images(size=16):
    return torch.rand(3, 3, size, size, generator=generator(1, "images"))


@torch.no_grad()
def assert_same_logits(run, original, mean=(), std=(), size=16):
    x = images(size)
    seen = x
    if mean:
        seen = torchvision.transforms.functional.normalize(x, mean, std)
    for fold in (False, True):
        network = load_classifier(checkpoint_of(run), CPU, fold).network
        torch.testing.assert_close(network(x), original(seen), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_model_of_timm_gives_its_own_logits(make, seeded, tmp_path, kind):
    model = random_weights(timm.create_model("resnet10t", num_classes=10))
    path = tmp_path / f"weights.{kind}"
    if kind == "pt":
        torch.save({"state_dict": nn.DataParallel(model).state_dict()}, path)
    else:
        safetensors.torch.save_file(model.state_dict(), path)
    run = make(path, "timm/resnet10t", mean=MEAN, std=STD)
    assert_same_logits(run, model, MEAN, STD)


def test_a_model_of_torchvision_gives_its_own_logits(make, seeded):
    model = random_weights(torchvision.models.resnet18(num_classes=10))
    assert_same_logits(make(model, "torchvision/resnet18"), model)


def test_a_vgg_keeps_the_layers_before_its_last_one(make, seeded):
    model = torchvision.models.mobilenet_v3_small(num_classes=10)
    assert_same_logits(make(random_weights(model), "torchvision/mobilenet_v3_small"), model)


class CifarBlock(nn.Module):
    """A basic block as public CIFAR ResNets write it."""

    def __init__(self, before, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet-18 with the small stem, under the names of public CIFAR training code."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for number, channels in enumerate((64, 128, 256, 512), 1):
            blocks = [CifarBlock(before, channels, 1 if number == 1 else 2), CifarBlock(channels, channels, 1)]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            before = channels
        self.linear = nn.Linear(512, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return self.linear(x.mean(dim=(2, 3)))


def test_a_cifar_resnet_of_other_names_gives_its_own_logits(make, seeded, tmp_path):
    model = random_weights(CifarResNet())
    torch.save({"net": nn.DataParallel(model).state_dict(), "acc": 95.0, "epoch": 199}, tmp_path / "ckpt.pth")
    run = make(tmp_path / "ckpt.pth", "resnet18", mean=MEAN, std=STD)
    assert_same_logits(run, model, MEAN, STD)
    notes = run.about.imported.notes
    assert [note.split(";")[0] for note in notes] == [
        "the weights are taken from its 'net'",
        "the prefix 'module' is taken off the names",
        "the names are those of the CIFAR ResNets with 'shortcut'",
        "the head is 'linear': 10 classes",
    ]


def test_a_normalisation_layer_in_the_file_needs_no_flags(make, seeded, tmp_path):
    model = random_weights(timm.create_model("resnet10t", num_classes=10))
    layer = {"0.means": torch.tensor(MEAN), "0.sds": torch.tensor(STD)}
    torch.save(layer | {f"1.module.{name}": tensor for name, tensor in model.state_dict().items()}, tmp_path / "w.pt")
    run = make(tmp_path / "w.pt", "timm/resnet10t")
    assert_same_logits(run, model, MEAN, STD)
    other = make(tmp_path / "w.pt", "timm/resnet10t", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert_same_logits(other, model, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert any("come before the weights' own" in note for note in other.about.imported.notes)


def test_a_normalisation_of_pixels_up_to_255_is_refused(make, seeded, tmp_path):
    model = random_weights(timm.create_model("resnet10t", num_classes=10))
    layer = {"0.mean": torch.tensor([102.0, 127.5, 153.0]), "0.std": torch.tensor([51.0, 76.5, 25.5])}
    torch.save(layer | {f"1.module.{name}": tensor for name, tensor in model.state_dict().items()}, tmp_path / "w.pt")
    with pytest.raises(UsageError) as caught:
        make(tmp_path / "w.pt", "timm/resnet10t")
    assert "pixels up to 255" in caught.value.message
    assert "--mean 0.4,0.5,0.6 --std 0.2,0.3,0.1" in str(caught.value.hint)
    assert_same_logits(make(tmp_path / "w.pt", "timm/resnet10t", mean=MEAN, std=STD), model, MEAN, STD)


class Toy(nn.Module):
    """The toy backbone with a head."""

    def __init__(self, classes=10):
        super().__init__()
        self.encoder, self.fc = toy(), nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.encoder(x))


@pytest.fixture
def theirs(seeded):
    return random_weights(Toy())


def test_the_run_says_where_the_model_is_from(make, theirs, tmp_path):
    run = make(theirs, "toy", check=8)
    facts, meta = json.loads((run.path / "run.json").read_text()), checkpoint_of(run).meta
    assert (facts["verb"], facts["stage"], facts.get("parent")) == ("import", "finetune", None)
    assert facts["imported"] == meta["imported"]
    assert facts["imported"]["file"] == str(tmp_path / "weights.pt")
    assert facts["imported"]["sha256"] == read_foreign(tmp_path / "weights.pt").origin.sha256
    results = json.loads((run.path / "results.json").read_text())
    assert results["parameters"] == sum(each.numel() for each in theirs.parameters())
    assert (results["classes"], results["image_size"], results["makes"]) == (10, 16, "classifier")


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(type(QUIET), "warn", lambda self, text: said.append(text))
    return said


@torch.no_grad()
def test_clean_accuracy_is_that_of_the_original_and_one_of_guessing_is_a_warning(make, theirs, warnings):
    split = limit(digits.digits("", image_size=16).split("test"), 40)
    x = split.images.float() / 255

    def clean():
        found = json.loads((make(theirs, "toy", check=40).path / "results.json").read_text())["clean"]
        assert found["images"] == 40
        assert found["correct"] == int((theirs(x).argmax(dim=1) == split.labels).sum())
        return found

    clean()
    assert len(warnings) == 1
    assert "where always saying the commonest class has" in warnings[0]
    assert "--mean" in warnings[0]
    features = theirs.encoder(x)
    centred = (features - features.mean(dim=0)).double()
    fitted = torch.linalg.lstsq(centred, nn.functional.one_hot(split.labels, 10).double()).solution
    theirs.fc.weight.copy_(fitted.T)
    theirs.fc.bias.copy_(-fitted.T.float() @ features.mean(dim=0))
    clean()
    assert len(warnings) == 1
    # It says the commonest label or a rare one, and is right about these: better than guessing, but not surely.
    counts = split.labels.bincount(minlength=10)
    said = counts.argsort(stable=True)[[3, 9]]
    theirs.fc.bias[~torch.isin(torch.arange(10), said)] = -100
    found = clean()
    assert found["chance"] == int(counts.max()) / 40
    assert found["correct"] > counts.max()
    assert len(warnings) == 2


@torch.no_grad()
def test_a_model_that_knows_the_classes_in_another_order_is_said_to(make, theirs, warnings):
    split = digits.digits("", image_size=16).split("test")
    features = theirs.encoder(split.images.float() / 255)
    centred = (features - features.mean(dim=0)).double()
    # The fitted outputs are those of the class before.
    fitted = torch.linalg.lstsq(centred, nn.functional.one_hot((split.labels - 1) % 10, 10).double()).solution
    theirs.fc.weight.copy_(fitted.T)
    theirs.fc.bias.copy_(-fitted.T.float() @ features.mean(dim=0))
    make(theirs, "toy", check=360)
    assert "it seems to know the classes in another order" in warnings[0]
    assert "zero is answered with nine; one is answered with zero" in warnings[0]


@pytest.mark.parametrize(("stated", "warned"), [(91.78, True), (0.9178, True), (2.5, False), (None, False)])
def test_an_accuracy_that_the_file_claims_is_compared(make, theirs, tmp_path, warnings, stated, warned):
    path = tmp_path / "claimed.pt"
    torch.save({"state_dict": theirs.state_dict()} | ({} if stated is None else {"best_prec1": stated}), path)
    results = json.loads((make(path, "toy", check=40).path / "results.json").read_text())
    claim = results["imported"].get("claim")
    assert claim == (None if stated is None else {"key": "best_prec1", "accuracy": stated / (100 if stated > 1 else 1)})
    chance = results["clean"].get("claim_chance")
    assert (chance is not None and chance < 0.001) == warned
    assert [text for text in warnings if "the file says best_prec1: 91.8 %" in text] == warnings[1:] * warned
    assert len(warnings) == 1 + warned


def test_data_that_is_not_here_is_not_checked_on(make, theirs, tmp_path, warnings):
    changes = ("data.name=cifar10", f"system.data_dir={tmp_path}")
    run = make(theirs, "toy", "data.image_size=32", *changes, check=40)
    assert json.loads((run.path / "results.json").read_text())["clean"] is None
    assert warnings == [f"not checked on images: cifar10 is not complete in {tmp_path}"]


def test_a_data_set_without_the_split_is_not_checked_on(make, theirs, warnings, monkeypatch):
    monkeypatch.delenv("RUSHKIT_DATA", raising=False)
    make(theirs, "toy", "evaluate.split=nosplit", check=8)
    assert warnings == ["not checked on images: digits has no split nosplit in data"]


def test_later_stages_take_an_imported_classifier_by_its_name(make, theirs, tmp_path):
    make(theirs, "toy", "data.limit=12")
    runs = str(tmp_path / "runs")
    assert run_named("theirs", runs, (Wish(("finetune",)),))[0].verb == "import"
    assert find_named("theirs", runs, (Wish(("pretrain",)),)) is None
    checkpoint = open_checkpoint("theirs", "finetune", runs)
    recipe = derive_recipe(recipe_of(checkpoint), {"system.runs_dir": runs, "evaluate.samples": [1, 8]})
    rows = evaluate(recipe, checkpoint).to_table()["accuracy"]
    assert len({row["accuracy"] for row in rows}) == 1
    attacked = attack(recipe, checkpoint).to_json()["attacks"]
    assert {(row["protocol"], row["samples"], row["votes"]) for row in attacked} == {("paper", 1, 1), ("strict", 1, 1)}
    for row in attacked:
        assert row["rules"]["majority"]["accuracy"] <= row["rules"]["majority"]["clean_accuracy"]
        assert row["rules"]["majority"]["flip_rate"] == 0
        assert not [note for note in row["notes"] if "weaker" in note["text"] or "panel" in note["text"]]
    g = rushkit.load("theirs", runs_dir=runs)
    torch.testing.assert_close(g(images()), torch.log_softmax(theirs(images()), dim=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("noise", "says"),
    [
        (("noise.name=gaussian", "noise.std=0.25"), "imported for this noise, which nothing here can confirm"),
        (("noise.name=uniform", "noise.scale=0.3"), "imported with noise uniform scale 0.3"),
        ((), "imported with noise none"),
    ],
)
def test_certificates_say_that_nobody_here_saw_the_training(make, theirs, noise, says):
    checkpoint = checkpoint_of(make(theirs, "toy", "data.limit=4", "certify.samples=20", *noise))
    gaussian = {"noise.name": "gaussian", "noise.std": 0.25, "certify.selection": 5, "certify.samples": 20}
    found = certify(derive_recipe(recipe_of(checkpoint), gaussian), checkpoint).to_json()
    assert [warning for warning in found["warnings"] if says in warning]
    with pytest.raises(NoCertificate, match="without noise"):
        certify(derive_recipe(recipe_of(checkpoint), {"noise.name": "none"}), checkpoint)


def test_images_made_without_noise_are_shown_to_a_smoothed_model_that_votes_as_it_does(make, theirs):
    plain, noisy = make(theirs, "toy"), make(theirs, "toy", "noise.name=gaussian", "noise.std=0.1", name="noisy")
    recipe = derive_recipe(recipe_of(checkpoint_of(plain)), ["attack.0.limit=4", "attack.0.steps=1"])
    with start_run("attack", recipe, QUIET) as run:
        rows = attack(recipe, checkpoint_of(plain), run, transfer=checkpoint_of(noisy)).to_json()["attacks"]
    asked = {row["protocol"]: (row["samples"], row["votes"]) for row in rows}
    answered = {row["protocol"]: (row["transfer"]["samples"], row["transfer"]["votes"]) for row in rows}
    assert asked == {"paper": (1, 1), "weaker": (1, 1)}
    assert answered == {"paper": (64, 1), "weaker": (64, 10)}


def test_without_noise_autoattack_is_the_official_standard_version_with_one_draw():
    plan = plan_attack(Attack(type="autoattack"), "strict", 64, 10, 0, deterministic=True)
    assert [candidate.options["version"] for candidate in plan.candidates] == ["standard"]
    assert (plan.votes, plan.gradient_samples, plan.panel, plan.notes) == (1, 1, False, ())
    for kind in ("pgd", "fgsm"):
        assert not plan_attack(Attack(type=kind), "paper", 64, 10, 0, deterministic=True).panel


def test_an_imported_encoder_is_fine_tuned(make, theirs, tmp_path):
    run = make(theirs, "toy", "finetune.epochs=1", "finetune.batch_size=8", "data.limit=16", encoder_only=True)
    checkpoint = checkpoint_of(run)
    assert checkpoint.meta["stage"] == "pretrain"
    assert {name.partition(".")[0] for name in checkpoint.tensors} == {"encoder"}
    runs = str(tmp_path / "runs")
    recipe = derive_recipe(recipe_of(checkpoint), {"system.runs_dir": runs})
    finetune(recipe, checkpoint)
    tuned = open_checkpoint("theirs", "finetune", runs)
    assert torch.equal(tuned.tensors["encoder.0.weight"], theirs.encoder[0].weight)
    with pytest.raises(CheckpointError, match="has no classifier"):
        load_classifier(checkpoint, CPU)


def test_a_head_for_other_classes(make, seeded):
    with pytest.raises(UsageError, match="the head has 7 classes, and digits has 10"):
        make(Toy(7), "toy")


class TestPretrained:
    @pytest.fixture
    def offered(self, seeded, monkeypatch):
        """timm and torchvision offer these, without a download."""
        model = random_weights(timm.create_model("resnet10t", num_classes=10))
        model.pretrained_cfg |= {"mean": MEAN, "std": STD, "tag": "theirs_v1"}
        monkeypatch.setattr(stage, "timm_pretrained", lambda name, size, options: model)
        return model

    def test_come_with_their_head_and_normalisation(self, offered, tmp_path):
        changes = ("data.image_size=16", f"system.runs_dir={tmp_path}")
        recipe = import_recipe("r", "digits", "timm/resnet10t", changes)
        plan = plan_import(recipe, pretrained_weights(recipe), Rules())
        with start_run("import", plan.recipe, QUIET) as run:
            write_import(plan, run, 0)
        assert_same_logits(run, offered, MEAN, STD)
        assert run.about.imported.pretrained == "timm/resnet10t"
        assert run.about.imported.tag == "theirs_v1"
        # The run needs nobody's download from then on.
        assert "pretrained" not in run.recipe_toml

    def test_of_torchvision(self, seeded, tmp_path, monkeypatch):
        whole = torchvision.models.resnet18(num_classes=10).state_dict()
        monkeypatch.setattr(stage, "pretrained_state", lambda name: whole)
        recipe = import_recipe("r", "digits", "torchvision/resnet18", ("data.image_size=16",))
        plan = plan_import(recipe, pretrained_weights(recipe), Rules())
        assert plan.recipe.backbone.mean == [0.485, 0.456, 0.406]
        assert plan.recipe.backbone.std == [0.229, 0.224, 0.225]
        assert torch.equal(plan.tensors["encoder.model.conv1.weight"], whole["conv1.weight"])

    def test_of_torchvision_with_a_scale_of_their_own(self, seeded, monkeypatch):
        monkeypatch.setattr(stage, "pretrained_state", lambda name: {})
        normalised = torchvision.transforms.functional.normalize(images(), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        # What torchvision's model does first where it has its weights.
        seen = torchvision.models.GoogLeNet(transform_input=True, init_weights=False)._transform_input(normalised)
        for option, ours in ((), seen), (("backbone.transform_input=true",), normalised):
            recipe = import_recipe("r", "digits", "torchvision/googlenet", ("data.image_size=32", *option))
            weights = pretrained_weights(recipe)
            torch.testing.assert_close(
                torchvision.transforms.functional.normalize(images(), weights.mean, weights.std), ours
            )

    def test_that_cannot_be_had(self, monkeypatch):
        def fail(*arguments, **keywords):
            if arguments[1:2] == (True,):
                raise OSError("no route to host")
            return real(*arguments, **keywords)

        real = timm.create_model
        monkeypatch.setattr(timm, "create_model", fail)
        recipe = import_recipe("r", "digits", "timm/resnet10t", ("data.image_size=16",))
        with pytest.raises(RushkitError, match="no route to host"):
            pretrained_weights(recipe)

    def test_of_a_backbone_that_has_none(self):
        with pytest.raises(UsageError, match="toy has no pretrained weights"):
            pretrained_weights(import_recipe("r", "digits", "toy"))

    def test_are_not_asked_for_by_the_recipe(self):
        with pytest.raises(UsageError, match="--pretrained"):
            import_recipe("r", "digits", "timm/resnet10t", ("backbone.pretrained=true",))


def test_a_noise_that_is_named_keeps_its_draws_and_none_needs_one():
    assert import_recipe("r", "digits", "toy").evaluate.samples == [1]
    named = import_recipe("r", "digits", "toy", ("noise.name=gaussian", "noise.std=0.25"))
    assert (named.noise.name, named.evaluate.samples, named.attack[0].samples) == ("gaussian", [1, 64], [1, 64])
