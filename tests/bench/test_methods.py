"""benchmarks/methods.py measures a method stage by stage, goes on where it was stopped, and counts passes."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from batches import batch_of, plain
from tiny_runs import die, toy
from torch import nn

from rushkit.models.network import Network
from rushkit.objectives.pgd_at import PgdAt
from rushkit.results.records import parse

FILE = Path(__file__).parents[2] / "benchmarks" / "methods.py"


@pytest.fixture(scope="module")
def methods():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FILE.parent))
        spec = importlib.util.spec_from_file_location("methods", FILE)
        module = importlib.util.module_from_spec(spec)
        sys.modules["methods"] = module
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def method(methods, tiny, tmp_path, monkeypatch):
    """A method of 48 tiny images, trained on 20 at a time."""

    def load(name, changes, environment):
        return tiny("finetune.freeze=none", "noise.name=none", *changes)

    monkeypatch.setattr(methods, "load_recipe", load)
    return methods.Method("tiny-digits", tmp_path / "kept", tmp_path / "work", methods.Sizes(images=2, samples=2))


def test_a_method_is_measured_once_and_gets_its_row(methods, method):
    assert not method.finished()
    # In two epochs of three steps it cannot.
    assert method.attempt().startswith("tiny-digits: learned nothing")
    assert method.finished()
    kept = {file.name: file.read_bytes() for file in (method.kept / "tiny-digits").iterdir()}
    assert set(kept) == {"finetune-cost.json", *(f"{stage}.json" for stage in method.stages)}
    for stage in method.stages:
        parse(method.file(stage).read_text())
    method.measure()
    assert kept == {file.name: file.read_bytes() for file in (method.kept / "tiny-digits").iterdir()}
    line = methods.table([method]).splitlines()[2]
    # Forward and backward; 48 images are batches of 20, 20 and 8.
    assert line.startswith("| `tiny-digits` | 2 | 3.0, 6 | 0.")
    assert len(line.split(" | ")) == 9


def test_a_stopped_training_goes_on_and_costs_what_a_whole_one_does(methods, method, at_step):
    at_step(4, die)
    assert method.attempt() == "tiny-digits: RuntimeError: the machine went away"
    assert not method.file("finetune").exists()
    method.do("finetune")
    assert method.cost("finetune").passes == pytest.approx(3)
    assert len(list(method.folder("finetune").iterdir())) == 1


def test_the_passes_of_adversarial_training_are_those_of_the_count(methods):
    network = Network(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()), nn.Linear(8, 10))
    images = torch.randint(256, (6, 3, 2, 2), dtype=torch.uint8)
    passes = methods.Passes()
    with passes.counted():
        (loss,) = PgdAt(steps=7).losses(network, nn.Module(), batch_of(images, torch.arange(6), views=plain))
        loss.backward()
    # Seven gradients of the input, and one of the weights: BASELINES counts 2 for each of the first and 3 for the last.
    assert passes.count == 6 * (7 * 2 + 3)
    network(torch.zeros(1, 3, 2, 2))
    assert passes.count == 6 * 17


def test_an_encoder_in_no_network_counts_and_the_parts_of_networks_do_not(methods):
    encoder = toy()
    network, predictor = Network(encoder, nn.Linear(8, 4)), nn.BatchNorm1d(4)
    images, passes = torch.rand(6, 3, 8, 8), methods.Passes()
    with passes.counted():
        with torch.no_grad():
            encoder(images)
        predictor(network(images)).square().sum().backward()
    assert passes.count == 6 * (1 + 3)


def test_a_method_with_a_pre_training_of_its_own_trains_twice(methods, tiny, tmp_path, monkeypatch):
    def load(name, changes, environment):
        own = [] if name == methods.RUSH else ["pretrain.objective=simclr", "finetune.freeze=all"]
        return tiny("noise.name=none", *own, *changes)

    monkeypatch.setattr(methods, "load_recipe", load)
    sizes = methods.Sizes(images=2, samples=2, pretrain=1, finetune=2)
    method = methods.Method("tiny-digits", tmp_path / "kept", tmp_path / "work", sizes, seed=3)
    assert method.stages == ["pretrain", "finetune", "evaluate", "paper", "strict"]
    method.measure()
    (line,) = methods.table([method]).splitlines()[2:]
    # Two views of each image forward and backward; nothing goes back through the frozen encoder.
    assert line.startswith("| `tiny-digits` | 1 + 2 | 6.0 + 1.0, 8 | 0.")
    assert parse(method.file("finetune").read_text()).source.startswith(str(tmp_path / "work"))


def test_the_loss_is_compared_by_tenths_of_the_run(methods):
    assert methods.tenths([9.0] * 16 + [3.0, 5.0, 1.0, 2.0]) == (4.0, 1.5)
    assert methods.tenths([2.0]) == (2.0, 2.0)
    assert methods.fall(methods.Cost(3.0, 1.0, 2, 4.0, 1.5)) == "1.5 (−62.5 %)"


def test_the_table_goes_between_the_marks_of_the_page(methods, tmp_path):
    page = tmp_path / "results.md"
    begin, end = methods.MARK
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    methods.write_page("new\n", page)
    assert page.read_text() == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"
    # The page that ships has them.
    text = (FILE.parents[1] / "docs" / "results.md").read_text()
    assert text.index(begin) < text.index(end)


def test_the_longest_method_of_the_last_time_comes_first(methods, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "ROOT", tmp_path)
    of = {name: methods.Method(name, tmp_path, tmp_path, methods.QUICK) for name in ("short", "long", "new")}
    for name, seconds in (("short", 1.0), ("long", 9.0)):
        folder = tmp_path / "benchmarks" / "methods" / name
        folder.mkdir(parents=True)
        cost = {"passes": 3.0, "seconds": seconds, "epochs": 1, "before": 1.0, "last": 1.0}
        (folder / "finetune-cost.json").write_text(json.dumps(cost))
    assert sorted(of, key=lambda name: methods.longest_first(of[name])) == ["new", "long", "short"]
