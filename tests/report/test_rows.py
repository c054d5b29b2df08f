"""A record as rows and as a data frame: columns with types, a row for each figure or each image."""

from __future__ import annotations

import sys

import pytest
from stage_records import STAGES
from synthetic_runs import attack_row, attacks, certification, evaluation, transferred

from rushkit.errors import RushkitError, UsageError

PER_IMAGE = ("evaluate", "attack", "certify", "predict", "audit", "probe")
FIGURES = {"figure", "value", "low", "high"}


def figures(record, name, column="value", **where):
    return [row[column] for row in record.to_rows() if row["figure"] == name and where.items() <= row.items()]


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "predict"])
def test_every_figure_is_a_row_with_its_interval(stage):
    rows = STAGES[stage].to_rows()
    assert rows
    assert all(row.keys() >= FIGURES for row in rows)


@pytest.mark.parametrize("stage", STAGES)
def test_every_value_is_a_plain_one(stage):
    for row in STAGES[stage].to_rows():
        assert {type(value) for value in row.values()} <= {str, int, float, bool, type(None)}


def test_the_accuracy_of_each_m_and_rule():
    record = evaluation([True, True, True, False])
    assert figures(record, "accuracy", m=64, rule="majority") == [0.75]
    assert figures(record, "accuracy", "images", m=1, rule="mean") == [4]
    assert figures(record, "class_accuracy", m=1, rule="mean", **{"class": "bird"}) == [1.0]


def test_the_accuracy_under_each_protocol_beside_the_clean_one():
    record = STAGES["attack"]
    assert figures(record, "robust_accuracy", protocol="paper", rule="majority") == [0.75]
    assert figures(record, "robust_accuracy", protocol="strict", rule="majority") == [0.375]
    assert figures(record, "clean_accuracy", "votes", protocol="strict", rule="majority") == [10]
    assert figures(record, "right_in_every_vote", protocol="strict", rule="mean") == [0.25]


def test_the_answers_of_another_model_are_figures_of_that_model():
    record = attacks(transferred(attack_row([10, 0]), [10, 10], "other"))
    (asked,) = set(figures(record, "transfer_accuracy", "asked"))
    assert "other" in asked
    assert figures(record, "robust_accuracy", rule="majority") == [0.5]


def test_the_certified_accuracy_of_each_radius():
    record = certification([0.05, 0.25, 0.1, 0.0], [True, True, False, False])
    assert [(row["radius"], row["value"]) for row in record.to_rows() if row["figure"] == "certified_accuracy"] == [
        (0.0, 0.5),
        (0.1, 0.25),
        (0.2, 0.25),
    ]


@pytest.mark.parametrize("stage", PER_IMAGE)
def test_every_image_is_a_row(stage):
    rows = STAGES[stage].to_rows(per_image=True)
    assert rows
    assert "figure" not in rows[0]


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in PER_IMAGE])
def test_a_record_without_images_says_so(stage):
    with pytest.raises(UsageError, match="says nothing of single images"):
        STAGES[stage].to_rows(per_image=True)


def test_the_outcome_of_an_image_names_it_and_its_votes():
    record = attacks(attack_row([10, 4], images=[7, 9]))
    rows = [row for row in record.to_rows(per_image=True) if row["rule"] == "majority"]
    assert [(row["index"], row["right_votes"], row["clean_right_votes"], row["votes"]) for row in rows] == [
        (7, 10, 10, 10),
        (9, 4, 10, 10),
    ]
    assert rows[0]["kept"] == "pgd nll"


def test_an_image_that_kept_a_candidate_the_row_does_not_list_is_no_error():
    row = attack_row([10, 4])
    altered = row.with_changes(candidates=[])
    assert attacks(altered).to_rows(per_image=True)[0]["kept"] == "clean"


def test_an_abstention_has_no_class():
    sure, unsure = STAGES["predict"].to_rows()
    assert (sure["class"], sure["index"], sure["radius"]) == ("cat", 0, 0.25)
    assert (unsure["class"], unsure["index"], unsure["abstained"]) == (None, None, True)


def test_an_audit_has_its_checks_beside_its_attacks():
    rows = STAGES["audit"].to_rows()
    assert [row["status"] for row in rows if row["figure"] == "check"] == ["pass", "warn", "fail"]
    assert 0.5 in [row["value"] for row in rows if row["figure"] == "accuracy_under_attack"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_data_frame_has_the_rows_with_types(stage):
    pandas = pytest.importorskip("pandas")
    record = STAGES[stage]
    frame = record.to_dataframe()
    assert len(frame) == len(record.to_rows())
    if stage != "predict":
        assert frame["value"].dtype == "float64"
    for name in {"m", "images", "votes", "version", "epochs"} & set(frame):
        assert pandas.api.types.is_integer_dtype(frame[name]), name


def test_a_gap_among_whole_numbers_leaves_them_whole():
    pytest.importorskip("pandas")
    frame = STAGES["predict"].to_dataframe()
    assert str(frame["index"].dtype) == "Int64"
    assert frame["abstained"].dtype == "bool"


def test_images_as_a_data_frame():
    pytest.importorskip("pandas")
    frame = evaluation([True, True, True, False]).to_dataframe(per_image=True)
    assert frame[(frame.m == 64) & (frame.rule == "majority")].right.mean() == 0.75


def test_without_pandas_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RushkitError) as raised:
        STAGES["evaluate"].to_dataframe()
    assert "needs pandas" in raised.value.message
    assert raised.value.hint.startswith("pip install pandas")
    assert STAGES["evaluate"].to_rows()
