"""Modules of twelve shapes through every verb that measures, or refused with the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from commands import only
from tiny_runs import folder_of_images

MODELS = Path(__file__).with_name("foreign_models.py")
DIGITS = ("--data", "digits", "--input-size", "8")
NOISE = ("--set", "noise.name=gaussian", "--set", "noise.std=0.1")
VIT = [f"--model-arg={each}" for each in ("img_size=8", "patch_size=4", "num_classes=10", "embed_dim=8", "depth=1")]

ATTACK = ("--type=pgd", "--eps=8/255", "--limit=2", "--samples=2", "--eot=1", "--set=attack.0.steps=2")
AUDIT = ("--limit=2", "--samples=2", "--steps=1", "--eot=1", "--queries=1", "--eps=8/255", "--norm=linf")
VERBS = {
    "evaluate": ("evaluate", "--samples", "2", "--limit", "4", "--split", "test", *NOISE),
    "attack": ("attack", *ATTACK, *NOISE),
    "audit": ("audit", *AUDIT, *NOISE),
    "certify": ("certify", "--samples", "50", "--limit", "2", "--norm", "l2", *NOISE),
}
# Model, further options, and for the verbs that refuse it what they say.
SHAPES = {
    "plain CNN": ("foreign_models.py:Plain", DIGITS, {}),
    "timm ViT": ("timm.models.vision_transformer:VisionTransformer", (*DIGITS, *VIT, "--model-arg=num_heads=2"), {}),
    "single logit": ("foreign_models.py:Single", ("--data", "two"), {}),
    "tuple": ("foreign_models.py:Tupled", DIGITS, {}),
    "dict": ("foreign_models.py:Mapped", (*DIGITS, "--output", "main"), {}),
    "one channel": ("foreign_models.py:Grey", ("--data", "three", "--set", "data.channels=1"), {}),
    "dropout on": ("foreign_models.py:Dropped", DIGITS, {"certify": "random by itself"}),
    "random resize": ("foreign_models.py:Resized", DIGITS, {"certify": "random by itself"}),
    "float64": ("foreign_models.py:double", DIGITS, {}),
    "normalises inside": ("foreign_models.py:Normalising", DIGITS, {}),
    "labels alone": ("foreign_models.py:labels", (*DIGITS, "--answers", "labels"), {"attack": "hopskipjump"}),
    "factory": ("foreign_models.py:made", (*DIGITS, "--model-arg", "width=3"), {}),
}
RANDOM = ("dropout on", "random resize")


@pytest.fixture
def place(folder) -> Path:
    """A folder with the file of models, and two data sets of 8x8 images."""
    shutil.copy(MODELS, folder)
    folder_of_images(folder / "two", classes=2)
    folder_of_images(folder / "three")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_measured_or_refused_with_the_reason(shape, place, cli):
    model, options, refused = SHAPES[shape]
    for verb, words in VERBS.items():
        said = cli(*words, "--model", model, *options, "-q")
        if verb in refused:
            assert said.code in (1, 2), (verb, said.err)
            assert said.err.count("error: ") == 1
            assert refused[verb] in said.err
            continue
        # An audit ends with 1 where a check fails; nothing of it is an error.
        assert said.code == 0 or (verb == "audit" and "error: " not in said.err), (verb, said.err)
        facts = json.loads((only(place / "runs", verb) / "run.json").read_text())["model"]
        assert facts["code"] == model
        assert len(facts["hash"]) == 64
        assert facts.get("random", False) == (shape in RANDOM)
    if "certify" in refused:
        assert not list((place / "runs").glob("*-certify-*"))


def measured(said) -> float:
    """The accuracy of a table that a command printed."""
    return json.loads(said.out)["accuracy"][0]["accuracy"]


EVALUATE = ("evaluate", "--samples", "1", "--limit", "40", "--json", "-q")


def test_weights_make_the_module_what_it_was_and_the_record_has_their_hash(place, cli):
    from foreign_models import Plain

    net = Plain()
    torch.save({"state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}, "net.pt")
    torch.manual_seed(5)
    torch.save(Plain().state_dict(), "other.pt")
    said = [
        cli(*EVALUATE, "--model", "foreign_models.py:Plain", *DIGITS, "--weights", file)
        for file in ("net.pt", "other.pt")
    ]
    assert [each.code for each in said] == [0, 0], said[0].err
    facts = [json.loads((run / "run.json").read_text())["model"] for run in sorted((place / "runs").iterdir())]
    assert facts[0]["weights_sha256"] != facts[1]["weights_sha256"]
    assert facts[0]["hash"] != facts[1]["hash"]


def test_what_is_measured_is_the_module_itself(place, cli):
    """Accuracy on the whole test split, counted by hand beside."""
    from foreign_models import shares

    from rushkit import datasets

    split = datasets.create("digits", root="", image_size=8).split("test")
    right = torch.from_numpy(shares((split.images / 255).numpy())).argmax(1) == split.labels
    said = cli(
        "evaluate",
        "--samples",
        "1",
        "--json",
        "-q",
        "--model",
        "foreign_models.py:shares",
        *DIGITS,
        "--answers",
        "probabilities",
    )
    assert measured(said) == pytest.approx(right.double().mean().item())


@pytest.mark.parametrize(
    "options, says",
    [
        (("--model", "foreign_models.py"), "does not say which name"),
        (("--model", "foreign_models.py:Plan"), "there is no Plan in foreign_models.py"),
        (("--model", "foreign_models.py:number"), "neither a torch module nor a callable"),
        (("--model", "foreign_models.py:made"), "needs the argument width"),
        (("--model", "foreign_models.py:made", "--model-arg", "widht=3"), "no argument widht"),
        (("--model", "foreign_models.py:made", "--model-arg", "width"), "is not KEY=VALUE"),
        (
            ("--model", "foreign_models.py:made", "--model-arg", "width=3", "--model-arg", "classes=7"),
            "returns 7 classes",
        ),
        (("--model", "foreign_models.py:Grey"), "cannot take images of 3x8x8"),
        (("--model", "foreign_models.py:Fails"), "cannot take images of 3x8x8: KeyError"),
        (("--model", "foreign_models.py:Mapped"), "several things: main (3, 10), aux (3, 10)"),
        (("--model", "foreign_models.py:labels"), "needs the argument images"),
        (("--model", "foreign_models.py:labels", "--answers", "probabilities"), "whole numbers"),
        (("--model", "foreign_models.py:Plain", "--mean", "0.5", "--std", "0.5"), "images of 3 channels"),
        (("--model", "foreign_models.py:Plain", "--mean", "0.5,0.5,0.5"), "mean and std"),
        (("--model", "foreign_models.py:Plain", "--weights", "wrong.pt"), "does not fit the module"),
        (("--model", "foreign_models.py:Plain", "--weights", "gone.pt"), "cannot be read"),
        (("--model", "text.txt:Net"), "is not a Python file"),
        (("--model", "broken.py:Net"), "broken.py cannot be imported"),
        (("--model", "nowhere.models:Net"), "there is no module nowhere.models"),
        (("--model", "onnx:gone.onnx"), "there is no file"),
        (("--model", "onnx:text.txt"), "no whole ONNX file"),
        (("--model", "foreign_models.py:Plain", "--front", "foreign_models.py:number"), "nothing that takes images"),
        (("--model", "foreign_models.py:Plain", "--front", "foreign_models.py:labels"), "cannot take images"),
        (("--weights", "wrong.pt"), "--weights without --model"),
    ],
)
def test_bad_input_has_one_message_and_leaves_no_run(options, says, place, fails):
    if "onnx:text.txt" in options:
        pytest.importorskip("onnxruntime")
    Path("text.txt").write_text("no code\n")
    Path("broken.py").write_text("class Net(:\n")
    torch.save({"head.weight": torch.zeros(1), "head.bais": torch.zeros(1)}, "wrong.pt")
    data = DIGITS if "--model" in options else ()
    codes = {"cannot take": 3, "cannot be imported": 3, "fit the module": 1, "cannot be read": 1, "whole ONNX": 1}
    code = next((code for words, code in codes.items() if words in says), 2)
    said = fails(code, "evaluate", *options, *data)
    assert says in said.err
    assert not list(Path().glob("runs/*"))


def test_a_front_stands_before_a_run_and_before_a_model(place, cli):
    """One that keeps no pixel leaves one class; the record names it, and its hash."""
    Path("blind.py").write_text("def blind(x):\n    return x * 0\n")
    for words in (("--from", "shipped/digits"), ("--model", "foreign_models.py:Plain", *DIGITS)):
        said = cli("evaluate", "--samples", "1", "--limit", "60", "--json", *words, "--front", "blind.py:blind")
        assert said.code == 0, said.err
        assert "no gradient" in said.err
        record = json.loads((only(place / "runs", "evaluate") / "results.json").read_text())
        assert len({label for row in record["outcomes"]["predicted"].values() for label in row["mean"]}) <= 2
        facts = json.loads((only(place / "runs", "evaluate") / "run.json").read_text())["model"]
        assert [front["file"] for front in facts["fronts"]] == ["blind.py:blind"]


def test_a_random_front_makes_the_classifier_random(place, fails):
    said = fails(2, "certify", "--from", "shipped/digits", "--front", "foreign_models.py:shifted")
    assert "random by itself" in said.err


def test_an_attack_behind_a_front_goes_on_where_it_stopped_only_if_the_front_is_named(place, cli, fails):
    words = ("attack", "--type", "pgd", "--eps", "8/255", "--limit", "2", "--samples", "1", "--protocol", "paper")
    assert cli(*words, "--from", "shipped/digits", "--front", "foreign_models.py:quantised", "-q").code == 0
    run = only(place / "runs", "attack")
    said = fails(2, "attack", "--resume", "--run", str(run))
    assert "--front" in said.err
    assert cli("attack", "--resume", "--run", str(run), "--front", "foreign_models.py:quantised").code == 0


def test_predict_needs_no_data_set(place, cli, fails):
    from PIL import Image

    Image.new("RGB", (8, 8), (90, 90, 90)).save("grey.png")
    words = ("predict", "grey.png", "--model", "foreign_models.py:Plain", "--samples", "50", *NOISE)
    assert "--input-size" in fails(2, *words).err
    said = cli(*words, "--input-size", "8", "--classes", ",".join("abcdefghij"), "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["predictions"][0]["top"] in "abcdefghij"
    assert "random by itself" in fails(2, *words[:3], "foreign_models.py:Dropped", "--input-size", "8", *NOISE).err


def test_probe_takes_the_outputs_of_a_module(place, cli, fails):
    words = ("probe", *DIGITS, "--limit", "2", "--steps", "1", "--json", "--model")
    said = cli(*words, "foreign_models.py:Tupled", "--output", "0")
    assert said.code == 0, said.err
    assert {row["encoder"] for row in json.loads(said.out)["rows"]} == {"given"}
    assert "several things" in fails(2, *words, "foreign_models.py:Tupled").err
    assert "has no gradient" in fails(2, *words, "foreign_models.py:shares", "--answers", "probabilities").err


def test_a_model_of_an_installed_package_is_named_by_its_module(place, cli, fails, monkeypatch):
    """A stand-in of the shape of robustbench, whose weights are on the network."""
    package = place / "site" / "robustbench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "utils.py").write_text(
        "import torch\nfrom torch import nn\n\n\n"
        "def load_model(model_name='Standard', model_dir='./models', dataset='cifar10', threat_model='Linf'):\n"
        "    if model_name != 'Carmon2019Unlabeled':\n        raise KeyError(model_name)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, 10))\n"
    )
    monkeypatch.syspath_prepend(place / "site")
    words = ("evaluate", "--model", "robustbench.utils:load_model", *DIGITS, "--samples", "1", "--limit", "8", "-q")
    assert cli(*words, "--model-arg", "model_name=Carmon2019Unlabeled", "--model-arg", "threat_model=Linf").code == 0
    facts = json.loads((only(place / "runs", "evaluate") / "run.json").read_text())["model"]
    assert facts["code"] == "robustbench.utils:load_model"
    assert len(facts["sha256"]) == 64
    assert "KeyError: 'Carmon'" in fails(3, *words, "--model-arg", "model_name=Carmon").err
    assert "did you mean model_name" in fails(2, *words, "--model-arg", "model_nam=Carmon").err


def test_weights_of_timm_and_its_normalisation_are_two_flags(place, cli):
    import timm

    net = timm.create_model("resnet10t", num_classes=10)
    torch.save(net.state_dict(), "timm.pt")
    words = (
        "evaluate",
        "--model",
        "timm.models:resnet10t",
        "--model-arg",
        "num_classes=10",
        *DIGITS,
        "--weights",
        "timm.pt",
    )
    said = cli(
        *words, "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--samples", "1", "--limit", "4", "-q"
    )
    assert said.code == 0, said.err
