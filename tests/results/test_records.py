from __future__ import annotations

import json

import pytest

from rushkit.errors import DataError
from rushkit.results import dump, parse, read
from rushkit.results.notes import Note
from rushkit.results.training import Pretraining

TRAINED = {"stage": "pretrain", "recipe": "mine", "epochs": 3, "loss": 0.5, "knn_protocol": None}


def text_of(table) -> str:
    return json.dumps(table, indent=2) + "\n"


def test_a_record_is_written_as_it_was_read():
    assert dump(parse(text_of(TRAINED))) == text_of(TRAINED)


def test_an_empty_default_is_left_out_and_a_field_without_a_default_is_written():
    table = Pretraining(recipe="mine", epochs=3, knn_protocol=None).to_table()
    assert table == {"stage": "pretrain", "recipe": "mine", "epochs": 3, "knn_protocol": None}
    assert Note(code="one-panel", text="one panel").to_table() == {"code": "one-panel", "text": "one panel"}


def test_json_output_names_the_folder_and_the_file_does_not(tmp_path):
    (tmp_path / "results.json").write_text(text_of(TRAINED))
    results = read(tmp_path)
    assert results.to_json() == {**TRAINED, "run": str(tmp_path)}
    assert dump(results) == text_of(TRAINED)


def test_a_folder_without_results_has_none(tmp_path):
    assert read(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "Expecting value"),
        ("[]", "does not name a stage"),
        ('{"stage": "magic"}', "does not name a stage"),
        ('{"stage": ["pretrain"]}', "does not name a stage"),
        (text_of(TRAINED | {"loss": float("nan")}), "NaN is not a finite number"),
        (text_of(TRAINED | {"epochs": 10**30}), "a number of 31 digits"),
        (text_of(TRAINED | {"epochs": "3"}), "epochs: Input should be a valid integer"),
        (text_of(TRAINED | {"epoch": 3}), "epoch: Extra inputs"),
        (text_of({key: value for key, value in TRAINED.items() if key != "recipe"}), "recipe: Field required"),
        ("[" * 100_000, "is damaged"),
    ],
)
def test_what_no_stage_writes_is_named(tmp_path, text, reason):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataError, match=r"results\.json is damaged: ") as raised:
        read(tmp_path)
    assert reason in raised.value.message


def test_a_changed_copy_is_checked():
    with pytest.raises(ValueError, match="epochs"):
        parse(text_of(TRAINED)).with_changes(epochs=0)
