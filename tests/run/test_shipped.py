"""The models that come with rushkit: what names them, what is stored, and what their cards say."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import rushkit
from rushkit.errors import UsageError
from rushkit.report.terminal.headline import figures
from rushkit.results.evaluation import Evaluation
from rushkit.run.info import find_runs
from rushkit.run.shipped import card_file, name_of, shipped_folder, shipped_models, shipped_run
from rushkit.run.source import resolve_from

MODELS = sorted(shipped_models())
MOST_BYTES = 1_000_000


@pytest.fixture(params=MODELS)
def model(request):
    return shipped_run(request.param)


def measured_of(model):
    return [run for run in find_runs(shipped_folder()) if model.path.name in Path(run.about.parent or "").parts]


def test_the_digits_are_among_them():
    assert "shipped/digits" in MODELS


@pytest.mark.parametrize("verbs", ["finetune", "pretrain", ("pretrain", "finetune")])
def test_a_shipped_model_is_named_like_a_run_and_brings_an_encoder_too(tmp_path, verbs):
    source = resolve_from("shipped/digits", tmp_path, verbs)
    assert (source.run.verb, source.run.recipe) == ("finetune", "digits")
    assert name_of(source.run.path) == "shipped/digits"
    assert source.load().meta["stage"] == "finetune"


def test_a_verb_that_needs_another_run_takes_no_shipped_model(tmp_path):
    with pytest.raises(UsageError, match="is a run of finetune; this needs one of cluster"):
        resolve_from("shipped/digits", tmp_path, "cluster")


def test_an_unknown_one_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(UsageError, match="rushkit comes with no model 'shipped/nothing'") as raised:
        resolve_from("shipped/nothing", tmp_path, "finetune")
    assert raised.value.hint == f"there are: {', '.join(MODELS)}"
    with pytest.raises(UsageError) as raised:
        resolve_from("shipped/digit", tmp_path, "finetune")
    assert raised.value.hint == "did you mean shipped/digits?"


def test_where_no_run_is_there_the_hint_names_a_shipped_one(tmp_path):
    with pytest.raises(UsageError) as raised:
        resolve_from("digits", tmp_path, "finetune")
    assert "\nwith rushkit comes: --from shipped/digits\nmake one with: " in raised.value.hint
    with pytest.raises(UsageError) as raised:
        resolve_from(None, tmp_path, "finetune")
    assert f"\nwith rushkit comes: --from {' or '.join(MODELS)}\n" in raised.value.hint
    with pytest.raises(UsageError) as raised:
        resolve_from(None, tmp_path, "pretrain")
    assert "shipped" not in raised.value.hint


def test_a_path_of_ones_own_may_lie_in_a_folder_called_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    theirs = shipped_run("shipped/digits").path
    shutil.copytree(theirs, tmp_path / "shipped" / "mine")
    shutil.copytree(theirs, tmp_path / "shipped" / "digits")
    assert resolve_from("shipped/mine", tmp_path / "runs", "finetune").run.path == Path("shipped/mine")
    assert resolve_from("./shipped/digits", tmp_path / "runs", "finetune").run.path == Path("shipped/digits")
    assert resolve_from("shipped/digits", tmp_path / "runs", "finetune").run.path == theirs


def test_load_gives_a_classifier_in_float32():
    g = rushkit.load("shipped/digits", samples=4, seed=0)
    assert {parameter.dtype for parameter in g.model.parameters()} == {torch.float32}
    assert g(torch.rand(2, 3, 16, 16)).shape == (2, 10)


def test_it_is_small_and_stored_in_half_precision_without_what_only_training_needs(model):
    checkpoint = model.store().load_latest()
    assert checkpoint.path.stat().st_size < MOST_BYTES
    assert {tensor.dtype for tensor in checkpoint.tensors.values() if tensor.dim() > 1} == {torch.float16}
    assert {name.partition(".")[0] for name in checkpoint.tensors} == {"encoder", "head"}


def test_nothing_of_the_folder_is_a_pickle_or_names_the_machine_it_was_made_on():
    files = [path for path in shipped_folder().rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".toml", ".md", ""}
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix != ".safetensors"]
    texts += [json.dumps(run.store().load_latest().meta) for run in shipped_models().values()]
    assert [found for text in texts for found in re.findall(r"""["'= ]/\w+/[\w/.-]+""", text)] == []


def test_it_was_evaluated_and_attacked(model):
    assert {run.verb for run in measured_of(model)} == {"evaluate", "attack"}
    assert {run.status for run in find_runs(shipped_folder())} == {"finished"}


def test_its_card_says_how_it_was_made_of_what_and_what_was_measured(model):
    card = card_file(model.recipe).read_text(encoding="utf-8")
    words = (
        f"`{model.recipe}`",
        model.started[:10],
        f"rushkit {model.about.versions['rushkit']}",
        "Licence",
        "Trained on",
    )
    assert [word for word in words if word not in card] == []
    assert model.store().load_latest().hash[:12] in card
    for run in measured_of(model):
        record = run.record()
        lines = [line for line in figures(record) if not isinstance(record, Evaluation) or ", mean:" not in line]
        assert [line for line in lines if f"- {line}" not in card] == []
