"""The precision of a run: decided once for its purpose, recorded with the reason, and kept when it is resumed."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from thread_ranks import run_ranks
from tiny_runs import QUIET, checkpoint_of, finetuned, pretrained

from rushkit import bf16
from rushkit.bf16 import Trial
from rushkit.certification.certify import certify
from rushkit.certification.predict import predict
from rushkit.distributed import ranks
from rushkit.errors import Interrupted, UsageError
from rushkit.evaluation.evaluate import evaluate
from rushkit.evaluation.probe import Ball, probe
from rushkit.results.run_file import Facts
from rushkit.run.folder import Run
from rushkit.run.info import read_run_file
from rushkit.run.metrics import read_metrics
from rushkit.run.speaker import Speaker
from rushkit.setup.model import load_classifier
from rushkit.setup.resume import Stopped, reopen
from rushkit.setup.start import machine_of, start_run
from rushkit.system import Machine
from rushkit.training import knn, loop, validation
from rushkit.training.finetune import finetune
from rushkit.training.pretrain import pretrain


@pytest.fixture
def cpu(monkeypatch):
    """``cpu("AVX512-BF16")``: a CPU with these units, on which bf16 is twice as fast; the trials are returned."""

    def set_up(*units: str) -> list[int]:
        made: list[int] = []
        monkeypatch.setattr(bf16, "cpu_name", lambda: "Zen 5")
        monkeypatch.setattr(bf16, "cpu_units", lambda: units)
        monkeypatch.setattr(bf16, "trial", lambda: made.append(ranks.rank()) or Trial(2.0, remembered=False))
        bf16.has_bf16_units.cache_clear()
        return made

    yield set_up
    monkeypatch.undo()
    bf16.has_bf16_units.cache_clear()


@pytest.fixture
def seen(monkeypatch):
    """The precisions of training steps, of nearest neighbours, and of votes in validation."""
    precisions: dict[str, set[str]] = {"steps": set(), "knn": set(), "votes": set()}

    def noting(module, name, key, place, original):
        def noted(*given):
            precisions[key].add(given[place].precision)
            return original(*given)

        monkeypatch.setattr(module, name, noted)

    noting(loop, "train_batch", "steps", 3, loop.train_batch)
    noting(knn, "features", "knn", 2, knn.features)
    noting(validation, "smoothed", "votes", 4, validation.smoothed)
    return precisions


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def facts(run: Run) -> tuple[str, str]:
    about = json.loads((run.path / "run.json").read_text())
    return about["precision"], about["precision_reason"]


def test_a_cpu_with_units_trains_in_bf16_and_measures_in_float32(tiny, cpu, seen):
    cpu("AVX512-BF16")
    run = pretrained(tiny())
    tuned = finetuned(tiny("data.validation=20"), checkpoint_of(run))
    assert seen == {"steps": {"bf16"}, "knn": {"float32"}, "votes": {"float32"}}
    why = "Zen 5 has AVX512-BF16, and in a trial bf16 was 2.00 times as fast as float32"
    assert facts(run) == facts(tuned) == ("bf16", why)
    evaluated = evaluate(tiny(), checkpoint_of(tuned))
    assert evaluated.precision == "float32"
    assert facts(Run.open(evaluated.run, QUIET)) == ("float32", "figures are made in float32 on a CPU")


def test_what_was_asked_for_holds_for_training_and_figures(tiny, cpu, seen):
    cpu()
    recipe = tiny("system.precision=bf16", "data.validation=20")
    finetuned(recipe, checkpoint_of(pretrained(recipe)))
    assert seen == {"steps": {"bf16"}, "knn": {"bf16"}, "votes": {"bf16"}}


def test_the_validations_attack_searches_in_the_precision_of_the_training(tiny, cpu, monkeypatch):
    cpu("AVX512-BF16")
    recipe = tiny("data.validation=20", "finetune.validation.steps=1", "finetune.epochs=1", "finetune.freeze=none")
    made, original = [], validation.SmoothedClassifier

    def classifier(network, *given, search, **options):
        made.append((type(network).__name__, type(search).__name__))
        return original(network, *given, search=search, **options)

    monkeypatch.setattr(validation, "SmoothedClassifier", classifier)
    finetuned(recipe, None)
    assert made == [("Network", "LowPrecision")]


def test_a_model_is_folded_in_either_precision(tiny):
    """Attacks whose gradients are bf16 score in float32 on the same network: as fast, and with the same answers."""
    tuned = checkpoint_of(finetuned(tiny("backbone.name=resnet10-small", "finetune.epochs=1"), None))
    whole, low = (load_classifier(tuned, Machine(torch.device("cpu"), name)).network for name in ("float32", "bf16"))
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not [layer for layer in low.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert torch.equal(whole(x), low(x))


def interrupted(recipe, at_step, step: int) -> Run:
    at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = start_run("pretrain", recipe, QUIET)
    with pytest.raises(Interrupted), run:
        pretrain(recipe, run)
    return run


def resumed(run: Run, speaker: Speaker = QUIET) -> Run:
    recipe, again = reopen(Stopped("pretrain", str(run.path.parent), str(run.path)), speaker=speaker)
    with again:
        pretrain(recipe, again)
    return again


@pytest.mark.parametrize(("begun", "precision"), [(("AVX512-BF16",), "bf16"), ((), "float32")])
def test_a_resumed_training_keeps_its_precision_on_another_machine(tiny, cpu, seen, at_step, begun, precision):
    cpu(*begun)
    whole, run = pretrained(tiny()), interrupted(tiny(), at_step, 3)
    seen["steps"].clear()
    made = cpu(*(() if begun else ("AMX-BF16",)))
    again = resumed(run)
    assert seen["steps"] == {precision}
    assert made == []
    assert facts(again)[0] == precision
    assert same(checkpoint_of(again).tensors, checkpoint_of(whole).tensors)
    # The recipe is the one that was asked for, so that figures do not follow the training.
    assert seen["knn"] == {"float32"}


def test_going_on_in_bf16_without_units_warns(tiny, cpu, at_step, monkeypatch):
    cpu("AVX512-BF16")
    run = interrupted(tiny(), at_step, 3)
    warned: list[str] = []
    monkeypatch.setattr(Speaker, "warn", lambda self, text: warned.append(text))
    monkeypatch.setenv("RUSHKIT_PRECISION", "float32")
    cpu()
    resumed(run)
    (text,) = (text for text in warned if "bf16" in text)
    assert "trains in bf16, as it was begun, and this CPU has no units for that" in text


@pytest.mark.parametrize("step", [1, 4])
def test_a_training_in_bf16_that_was_stopped_ends_bit_for_bit_the_same(tiny, at_step, step):
    recipe = tiny("system.precision=bf16")
    whole, run = pretrained(recipe), interrupted(recipe, at_step, step)
    again = resumed(run)
    assert same(checkpoint_of(again).tensors, checkpoint_of(whole).tensors)
    assert read_metrics(again.path / "metrics.jsonl") == read_metrics(whole.path / "metrics.jsonl")


def test_a_fine_tuning_in_bf16_that_died_ends_bit_for_bit_the_same(tiny, at_step):
    recipe = tiny("system.precision=bf16", "data.validation=20", "finetune.validation.steps=1", "finetune.freeze=none")
    whole = finetuned(recipe, None)
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = start_run("finetune", recipe, QUIET)
    with pytest.raises(Interrupted), run:
        finetune(recipe, None, run)
    with Run.open(run.path, QUIET) as again:
        finetune(recipe, None, again)
    assert same(checkpoint_of(again).tensors, checkpoint_of(whole).tensors)
    assert not same(checkpoint_of(again).tensors, checkpoint_of(finetuned(tiny(), None)).tensors)


def test_bf16_changes_no_draw(tiny, monkeypatch):
    drawn: dict[str, list[int]] = {"float32": [], "bf16": []}
    original = loop.train_batch

    def noted(batch, job, optimizer, machine, place):
        drawn[machine.precision] += [batch.source.initial_seed(), int(batch.images.sum())]
        return original(batch, job, optimizer, machine, place)

    monkeypatch.setattr(loop, "train_batch", noted)
    for precision in drawn:
        pretrained(tiny(f"system.precision={precision}"))
    assert drawn["bf16"] == drawn["float32"] != []


def test_all_ranks_take_the_precision_of_rank_0_which_alone_makes_the_trial(tiny, cpu):
    made = cpu("AVX512-BF16")
    recipe = tiny()
    machines = run_ranks(lambda: machine_of(recipe, "training"), 3)
    assert made == [0]
    assert {(machine.precision, machine.why) for machine in machines} == {(machines[0].precision, machines[0].why)}
    assert machines[0].precision == "bf16"


def test_two_ranks_train_in_bf16_as_one_does(tiny):
    recipe = tiny("system.precision=bf16", "pretrain.knn.every=0")
    (alone,) = {line["loss"] for line in losses(pretrained(recipe))[-1:]}
    together = run_ranks(lambda: str(pretrained(recipe).path), 2)
    (joined,) = {line["loss"] for line in losses(Run.open(together[0], QUIET, rank=1))[-1:]}
    # bf16 has 8 bits of mantissa.
    assert joined == pytest.approx(alone, rel=2**-6)


def losses(run: Run) -> list[dict[str, float]]:
    return [line for line in read_metrics(run.path / "metrics.jsonl") if line["kind"] == "step"]


def test_features_are_compared_in_float32_and_the_run_says_so(tiny):
    recipe = tiny("system.precision=bf16")
    source = checkpoint_of(pretrained(tiny()))
    low, usual = (probe(chosen, source, Ball(steps=1), images=4) for chosen in (recipe, tiny()))
    assert low.outcomes == usual.outcomes
    assert facts(Run.open(low.run, QUIET)) == ("float32", "features are compared by small differences")


def test_figures_in_bf16_are_recorded_as_such(tiny, tmp_path):
    from PIL import Image

    recipe = tiny("system.precision=bf16", "certify.samples=20", "certify.selection=5", "certify.limit=4")
    source = checkpoint_of(finetuned(tiny(), checkpoint_of(pretrained(tiny()))))
    assert evaluate(recipe, source).precision == "bf16"
    assert certify(recipe, source).precision == "bf16"
    Image.new("RGB", (8, 8)).save(tmp_path / "grey.png")
    assert predict(recipe, source, [tmp_path / "grey.png"], QUIET).precision == "bf16"


@pytest.mark.parametrize("written", ["bf8", 16, None, ["bf16"], "\x1b[2J"])
def test_an_altered_precision_in_run_json_is_one_error(tmp_path, written):
    with Run.create(tmp_path, "pretrain", "mine", Facts(precision="bf16"), 'name = "mine"\n', QUIET) as run:
        pass
    file = run.path / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"precision": written}))
    with pytest.raises(UsageError) as caught:
        read_run_file(run.path)
    assert "precision" in caught.value.message
    assert "\x1b" not in str(caught.value.message)
