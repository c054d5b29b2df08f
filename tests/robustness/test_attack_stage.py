"""rushkit attack as a function: protocols, records, stops and resumes, saved images, transfer, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from linear_models import count_calls
from nearest_mean import nearest_mean, pixels_backbone

from rushkit import registries
from rushkit.attacks.apgd import APGD
from rushkit.bar import Progress
from rushkit.data.memory import limit
from rushkit.errors import CheckpointError, DataError, Interrupted, NumericsError, PluginError, RushkitError, UsageError
from rushkit.recipe.schema import Attack
from rushkit.robustness import attack as attack_module
from rushkit.robustness import transfer as transfer_module
from rushkit.robustness.attack import attack
from rushkit.robustness.protocols import plan_attack
from rushkit.run.checkpoint import load_checkpoint, save_checkpoint
from rushkit.run.folder import Run
from rushkit.run.partial import Partial
from rushkit.run.speaker import Speaker
from rushkit.setup import components, resumable, subject
from rushkit.setup.start import start_run
from rushkit.smoothing import SmoothedClassifier

QUIET = Speaker(-1, rank=0)


@pytest.fixture(autouse=True)
def named_backbone(monkeypatch):
    monkeypatch.setattr("rushkit.robustness.attack.BLOCK", 5)
    with pixels_backbone():
        yield


@pytest.fixture
def recipe(tiny):
    """``recipe("attack.0.eps=0.1")``: linear classifiers of digits under a little noise, 12 images, blocks of 5."""

    short = ("attack.0.steps=3", "attack.0.restarts=1")

    def make(*changes):
        return tiny(
            "data.limit=12",
            "backbone.name=pixels",
            "noise.scale=0.1",
            "system.chunk=100",
            "attack.0.samples=[4]",
            "attack.0.limit=0",
            "attack.0.eps=0.1",
            *(() if any("attack.0.type" in change for change in changes) else short),
            *changes,
        )

    return make


@pytest.fixture
def source(recipe, tmp_path):
    """``source()``: the checkpoint of a nearest-mean classifier, which is linear; most digits are right."""

    def make(name="source", sharpness=6.0, chosen=None):
        return nearest_mean(chosen or recipe(), tmp_path / f"{name}.safetensors", sharpness)

    return make


def run_of(recipe, source):
    return start_run("attack", recipe, QUIET, parent=str(source.path))


def attacked(recipe, source, **options):
    """-> results, the run's folder."""
    with run_of(recipe, source) as run:
        return attack(recipe, source, run, **options).to_json(), run.path


def timeless(results):
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in results["attacks"]]
    return {**results, "attacks": rows, "run": None}


def outcomes(row):
    return row["outcomes"]["right"]["majority"]


def test_a_row_tells_every_image_every_vote_and_who_broke_what(recipe, source):
    results, path = attacked(recipe(), source())
    assert json.loads((path / "results.json").read_text()) | {"run": str(path)} == json.loads(json.dumps(results))
    paper, strict = results["attacks"]
    assert paper["split"] == strict["split"] == "digits/test"
    assert (paper["protocol"], paper["votes"], paper["gradient_samples"]) == ("paper", 1, 4)
    assert (strict["protocol"], strict["votes"], strict["gradient_samples"]) == ("weaker", 10, 20)
    for row in (paper, strict):
        assert row["outcomes"]["images"] == list(range(12))
        assert len(outcomes(row)) == len(row["outcomes"]["chosen"]) == 12
        assert 0 <= sum(row["contributions"].values()) <= 12
        assert row["image_forwards"] > 0
        assert row["image_backwards"] > 0
    assert list(strict["contributions"]) == ["clean", "pgd nll", "pgd ce", "pgd dlr", "pgd margin"]
    accuracy = strict["rules"]["majority"]["accuracy"]
    assert accuracy == pytest.approx(sum(outcomes(strict)) / 120)
    assert accuracy < strict["rules"]["majority"]["clean_accuracy"]


def test_the_same_seed_gives_the_same_result_and_another_seed_other_draws(recipe, source):
    model = source()
    first, _ = attacked(recipe("attack.0.eps=0.05"), model)
    second, _ = attacked(recipe("attack.0.eps=0.05"), model)
    other, _ = attacked(recipe("attack.0.eps=0.05", "system.seed=1"), model)
    assert timeless(first) == timeless(second)
    assert timeless(first) != timeless(other)


class Stopper:
    """Asks to stop at the n-th pause, between two parts of the work or two passes of the model."""

    def __init__(self, monkeypatch, after):
        self.left = after
        original = resumable.graceful_stop
        stopper = self

        class Wish:
            @property
            def requested(self):
                stopper.left -= 1
                return stopper.left <= 0

            @requested.setter
            def requested(self, value):
                stopper.left = 0

        class Graceful:
            def __enter__(self):
                return Wish()

            def __exit__(self, *error):
                return None

        monkeypatch.setattr(resumable, "graceful_stop", lambda _: Graceful())
        self.undo = lambda: monkeypatch.setattr(resumable, "graceful_stop", original)


class StoreStopper(Stopper):
    """Asks to stop once a state was stored for the n-th time."""

    def __init__(self, monkeypatch, after):
        super().__init__(monkeypatch, 10**9)
        stores, original = iter(range(1, 1000)), Partial.save

        def save(*arguments):
            original(*arguments)
            self.left = 0 if next(stores) == after else self.left

        monkeypatch.setattr(Partial, "save", save)


@pytest.mark.parametrize("after", [1, 2, 4, 6, -1, -5, -20, -60])
def test_a_stop_between_any_two_attacks_or_passes_changes_no_outcome(recipe, source, monkeypatch, after):
    chosen, model = recipe("attack.0.samples=[2]"), source()
    whole, _ = attacked(chosen, model, protocols=["strict"])
    stopper = StoreStopper(monkeypatch, after) if after > 0 else Stopper(monkeypatch, -after)
    with pytest.raises(Interrupted, match="--resume"), run_of(chosen, model) as run:
        attack(chosen, model, run, ["strict"])
    stopper.undo()
    counted = []
    monkeypatch.setattr(SmoothedClassifier, "_count", count_calls(SmoothedClassifier._count, counted))
    with Run.open(run.path, QUIET) as run:
        resumed = attack(chosen, model, run, ["strict"]).to_json()
    assert timeless(resumed) == timeless(whole)
    assert 0 < sum(counted) < whole["attacks"][0]["image_forwards"] * 3


def test_the_bar_counts_every_pass_and_says_how_many_images_are_settled(recipe, source, monkeypatch):
    shown = []
    original = Progress.advance

    def advance(self, n=1, **values):
        original(self, n, **values)
        shown.append((self.done, self.total, self.note))

    monkeypatch.setattr(Progress, "advance", advance)
    (row,) = attacked(recipe("attack.0.samples=[2]"), source(), protocols=["strict"])[0]["attacks"]
    done, totals, notes = zip(*shown, strict=True)
    # Ten votes of two draws each, on the clean image and on the worst version under each of two rules.
    assert row["image_forwards"] + row["image_backwards"] + row["images"] * 3 * 10 * 2 <= done[-1] == totals[-1]
    assert notes[-1] == "settled 12 of 12"
    # There is a sign of life after every pass, which has 100 images at most, forward and backward.
    assert 0 <= min(np.diff(done)) < max(np.diff(done)) <= 2 * 100
    assert max(totals) > totals[-1]


def test_a_stop_within_autoattack_does_not_repeat_its_parts(recipe, source, monkeypatch):
    chosen = recipe("attack.0.type=autoattack", "attack.0.steps=2", "attack.0.eot=2", "data.limit=6")
    model = source()
    whole, _ = attacked(chosen, model, protocols=["strict"])
    stopper = StoreStopper(monkeypatch, 2)
    with pytest.raises(Interrupted), run_of(chosen, model) as run:
        attack(chosen, model, run, ["strict"])
    stopper.undo()
    stored = list((run.path / "counts").glob("*.part.safetensors"))
    assert len(stored) == 1
    assert load_checkpoint(stored[0]).meta["suite"]["done"] == ["clean", "apgd-ce"]
    begun = []
    monkeypatch.setattr(APGD, "run", noting(APGD.run, begun))
    with Run.open(run.path, QUIET) as run:
        resumed = attack(chosen, model, run, ["strict"]).to_json()
    assert timeless(resumed) == timeless(whole)
    # Blocks of 5 and 1: the first goes on with its second part.
    assert begun[0] == "dlr"
    assert list((run.path / "counts").glob("*.part.safetensors")) == []


def noting(original, begun):
    def run(self, *arguments):
        begun.append(self.loss)
        return original(self, *arguments)

    return run


def test_autoattack_runs_rand_at_eot_20_on_a_smoothed_model_and_says_so(recipe):
    for m, classes in ((1, 10), (64, 10)):
        plan = plan_attack(Attack(type="autoattack"), "strict", m, classes, 0)
        (candidate,) = plan.candidates
        suite = candidate.create(Attack(type="autoattack"))
        parts, _ = suite.parts(suite.version, 10)
        assert [(part.steps, part.samples) for part in parts.values()] == [(100, 20), (100, 20)]
        assert plan.gradient_samples == 20
        assert any("version rand, the default on a smoothed model" in note.text for note in plan.notes)
    chosen = plan_attack(Attack(type="autoattack", version="standard"), "strict", 64, 10, 0)
    assert (chosen.gradient_samples, chosen.notes) == (64, ())


def test_the_parts_of_autoattack_are_credited_one_by_one(recipe, source):
    chosen = recipe("attack.0.type=autoattack", "attack.0.steps=5", "attack.0.eot=4", "attack.0.eps=0.15")
    results, _ = attacked(chosen, source(), protocols=["strict"])
    (row,) = results["attacks"]
    assert list(row["contributions"]) == ["clean", "apgd-ce", "apgd-dlr"]
    broken = sum(right < 5 for right in outcomes(row))
    assert sum(row["contributions"].values()) == pytest.approx(broken, abs=2)
    assert row["contributions"]["apgd-ce"] > 0


@pytest.mark.parametrize("kind", ["fgsm", "square", "difgsm"])
def test_attacks_of_torchattacks_run_in_both_protocols(recipe, source, kind):
    own = ["attack.0.queries=5"] if kind == "square" else []
    chosen = recipe("data.limit=3", f"attack.0.type={kind}", "attack.0.samples=[2]", *own)
    results, _ = attacked(chosen, source())
    assert [row["images"] for row in results["attacks"]] == [3, 3]
    assert all(row["image_forwards"] > 0 for row in results["attacks"])


def test_an_attack_without_run_has_its_forwards_counted(recipe, source):
    def still(norm: str, eps: float, times: int = 0):
        return lambda model, x, y: [x, *(model(x) for _ in range(times))][0]

    registries.attacks.register("still")(still)
    try:
        changes = [("attack.0.type=still", "attack.0.eps=0.1", f"attack.0.times={times}") for times in (0, 1, 2)]
        results = [attacked(recipe(*each), source())[0]["attacks"] for each in changes]
    finally:
        registries.attacks.unregister("still", still.__module__.partition(".")[0])
    paper, strict = ([row["image_forwards"] for row in rows] for rows in zip(*results, strict=True))
    assert paper == [0, 12 * 4, 2 * 12 * 4]
    # The votes that select come before; images that they find clearly wrong are not attacked.
    assert strict[0] >= 12 * 16
    assert strict[1] - strict[0] == strict[2] - strict[1]
    assert strict[1] - strict[0] in range(4, 12 * 4 + 1, 4)


def test_an_attack_that_changes_the_weights_fails_and_they_are_put_back(recipe, source):
    parameters = []

    def retrain(norm: str, eps: float):
        def attack(model, x, y):
            parameters.extend(model.parameters())
            with torch.no_grad():
                for parameter in parameters:
                    parameter.zero_()
            return x

        return attack

    registries.attacks.register("retrain")(retrain)
    try:
        with pytest.raises(PluginError, match="attack 'retrain' changed the model's weights"):
            attacked(recipe("attack.0.type=retrain"), source())
    finally:
        registries.attacks.unregister("retrain", retrain.__module__.partition(".")[0])
    assert any(parameter.any() for parameter in parameters)


def test_saved_images_are_those_that_were_scored(recipe, source):
    chosen, model = recipe(), source()
    results, path = attacked(chosen, model, save=True)
    split = components.load_split(chosen, components.build_dataset(chosen), "test")
    clean = components.to_float(split.images)
    for row in results["attacks"]:
        kept = load_checkpoint(path / row["saved"]).tensors
        assert kept["images"].dtype == torch.float32
        assert kept["indices"].tolist() == list(range(12))
        assert torch.equal(kept["labels"], split.labels)
        assert (kept["images"] - clean).abs().max() <= 0.1 + 1e-6
        assert kept["images"].min() >= 0
        assert kept["images"].max() <= 1
        assert not torch.equal(kept["images"], clean)
    assert sorted(each.name for each in (path / "adversarial").iterdir()) == sorted(
        row["saved"].partition("/")[2] for row in results["attacks"]
    )


def test_indices_of_saved_images_are_places_in_the_limited_split(recipe, source):
    """Not in the split's own order, which a limit permutes; a larger limit begins with the same images."""
    model, labels = source(), {}
    for count in (4, 8):
        chosen = recipe("data.limit=0", f"attack.0.limit={count}")
        results, path = attacked(chosen, model, save=True)
        split = components.load_split(chosen, components.build_dataset(chosen), "test")
        kept = load_checkpoint(path / results["attacks"][0]["saved"]).tensors
        assert kept["indices"].tolist() == results["attacks"][0]["outcomes"]["images"] == list(range(count))
        labels[count] = kept["labels"].tolist()
        assert (kept["images"] - components.to_float(limit(split, count).images)).abs().max() <= 0.1 + 1e-6
        assert (kept["images"] - components.to_float(split.images[:count])).abs().max() > 0.1 + 1e-6
    assert labels[8][:4] == labels[4]


def test_saving_goes_on_with_a_stopped_run(recipe, source, monkeypatch):
    chosen, model = recipe(), source()
    whole, whole_path = attacked(chosen, model, protocols=["strict"], save=True)
    stopper = Stopper(monkeypatch, 6)
    with pytest.raises(Interrupted), run_of(chosen, model) as run:
        attack(chosen, model, run, ["strict"], save=True)
    stopper.undo()
    with Run.open(run.path, QUIET) as run:
        resumed = attack(chosen, model, run, ["strict"], save=True).to_json()
    assert timeless(resumed) == timeless(whole)
    name = whole["attacks"][0]["saved"]
    one, other = load_checkpoint(whole_path / name), load_checkpoint(run.path / name)
    assert all(torch.equal(one.tensors[key], other.tensors[key]) for key in one.tensors)


def test_images_that_were_not_kept_cannot_be_saved_later(recipe, source):
    chosen, model = recipe(), source()
    _, path = attacked(chosen, model, protocols=["strict"])
    with pytest.raises(RushkitError, match="without saving"), Run.open(path, QUIET) as run:
        attack(chosen, model, run, ["strict"], save=True)


def test_transfer_to_the_same_model_gives_its_own_accuracy_and_to_another_its_own(recipe, source, monkeypatch):
    monkeypatch.setattr(transfer_module, "BLOCK", 5)
    chosen, model = recipe("attack.0.eps=0.2", "attack.0.samples=[16]"), source()
    # Another metadata, so another file and hash; the same weights and noise.
    same = source("same", chosen=recipe("data.limit=11"))
    results, _ = attacked(chosen, model, protocols=["strict"], transfer=same)
    (row,) = results["attacks"]
    here, there = row["rules"]["majority"], row["transfer"]["rules"]["majority"]
    # Fresh votes on both sides: 16 draws on images far from a tie.
    assert there["accuracy"] == pytest.approx(here["accuracy"], abs=0.1)
    assert there["clean_accuracy"] == pytest.approx(here["clean_accuracy"], abs=0.1)
    assert row["transfer"]["outcomes"]["images"] == list(range(12))
    # Constant logits: every image is class 0, whatever the attack did.
    constant = source("constant", sharpness=0.0)
    results, _ = attacked(chosen, model, protocols=["strict"], transfer=constant)
    there = results["attacks"][0]["transfer"]["rules"]["majority"]
    zeros = results["attacks"][0]["outcomes"]["labels"].count(0) / 12
    assert there["accuracy"] == there["clean_accuracy"] == zeros
    # The same weights under a noise of their own, in which digits drown.
    drowned = source("drowned", chosen=recipe("noise.scale=8.0"))
    results, _ = attacked(chosen, model, protocols=["strict"], transfer=drowned)
    there = results["attacks"][0]["transfer"]
    assert there["noise"]["scale"] == 8
    assert there["rules"]["majority"]["clean_accuracy"] < here["clean_accuracy"] - 0.3


def test_transfer_to_a_model_of_other_classes_is_refused(recipe, source, tmp_path):
    model = source()
    stored = {**model.meta, "classes": ["a", "b"]}
    tensors = {**model.tensors, "head.weight": torch.zeros(2, 192), "head.bias": torch.zeros(2)}
    save_checkpoint(tmp_path / "two.safetensors", tensors, stored)
    with pytest.raises(UsageError, match="another classes"):
        attacked(recipe(), model, transfer=load_checkpoint(tmp_path / "two.safetensors"))


@pytest.mark.parametrize("change", ["attack.0.eps=0.2", "noise.scale=0.2", "system.seed=3", "data.limit=10"])
def test_resume_refuses_another_question(recipe, source, change):
    model, other = source(), recipe(change)
    _, path = attacked(recipe(), model, protocols=["strict"])
    # A run resumes with its own recipe; its file is given the name that another radius would have.
    (old,) = (path / "counts").glob("*.jsonl")
    (job,) = attack_module.plan_jobs(other, tuple("0123456789"), ["strict"])
    old.rename(old.with_name(f"{job.name}.jsonl"))
    with pytest.raises(RushkitError, match="is about something else"), Run.open(path, QUIET) as run:
        attack(other, model, run, ["strict"])
    assert (path / "results.json").exists()


def test_resume_refuses_another_model(recipe, source):
    chosen = recipe()
    _, path = attacked(chosen, source(), protocols=["strict"])
    with pytest.raises(RushkitError, match="model changed"), Run.open(path, QUIET) as run:
        attack(chosen, source(sharpness=5.0), run, ["strict"])


def test_resume_refuses_another_precision_of_the_search(recipe, source, monkeypatch):
    monkeypatch.setattr("rushkit.system.has_bf16_units", lambda device: True)
    chosen, model = recipe("system.precision=bf16"), source()
    _, path = attacked(chosen, model, protocols=["strict"])
    # A machine without such units searches in float32.
    monkeypatch.setattr("rushkit.system.has_bf16_units", lambda device: False)
    with pytest.raises(RushkitError, match="precision changed"), Run.open(path, QUIET) as run:
        attack(chosen, model, run, ["strict"])


def test_resume_refuses_other_images_of_the_same_name_and_number(recipe, source, monkeypatch):
    chosen, model, original = recipe(), source(), components.load_split
    _, path = attacked(chosen, model, protocols=["strict"])

    def darker(*arguments, **options):
        split = original(*arguments, **options)
        return type(split)(split.images // 2, split.labels, split.name)

    monkeypatch.setattr(subject, "load_split", darker)
    with pytest.raises(RushkitError, match="content changed"), Run.open(path, QUIET) as run:
        attack(chosen, model, run, ["strict"])


def test_nan_logits_stop_the_attack_and_keep_what_was_done(recipe, source):
    faulty = recipe("backbone.fault=not a number", "data.limit=40", "noise.scale=0.01")
    model = source(chosen=faulty)
    with pytest.raises(NumericsError, match="NaN or infinite"), run_of(faulty, model) as run:
        attack(faulty, model, run, ["strict"])
    assert json.loads((run.path / "run.json").read_text())["status"] == "failed"


def test_a_model_without_gradients_is_named(recipe, source):
    faulty = recipe("backbone.fault=no gradient")
    with pytest.raises(UsageError, match="no gradient") as caught:
        attacked(faulty, source(chosen=faulty))
    assert "square" in caught.value.hint


def test_a_norm_that_the_attack_lacks_is_refused_before_any_work(recipe, source, monkeypatch):
    monkeypatch.setattr(attack_module, "run_job", None)
    chosen = recipe("attack.0.type=fgsm", "attack.0.norm=l1")
    with pytest.raises(UsageError, match="fgsm has no norm 'l1'"):
        attacked(chosen, source())


def test_labels_that_are_missing_are_named(recipe, source, monkeypatch):
    chosen, model = recipe(), source()
    original = components.load_split

    def unlabelled(*arguments, **options):
        split = original(*arguments, **options)
        return type(split)(split.images, None, split.name)

    monkeypatch.setattr(subject, "load_split", unlabelled)
    with pytest.raises(DataError, match="has no labels"):
        attacked(chosen, model)


def test_a_pre_trained_checkpoint_is_refused(recipe, source, tmp_path):
    model = source()
    save_checkpoint(tmp_path / "pre.safetensors", model.tensors, {**model.meta, "stage": "pretrain"})
    with pytest.raises(CheckpointError, match="has no classifier"):
        attacked(recipe(), load_checkpoint(tmp_path / "pre.safetensors"))


def test_two_tables_of_one_type_do_not_share_files(recipe, source):
    chosen = recipe()
    twice = chosen.model_copy(update={"attack": [chosen.attack[0], Attack(type="pgd", eps=0.1, samples=[4], steps=2)]})
    results, path = attacked(twice, source(), protocols=["paper"])
    assert len(results["attacks"]) == 2
    assert len(list((path / "counts").glob("*.jsonl"))) == 2
