"""An attack that may be weaker than strict asks for is called so wherever its figure stands, and says in what."""

from __future__ import annotations

import json

import pytest
from commands import only, sets

FEW = ("--limit", "2", "--samples", "1")
SHORT = sets("attack.0.steps=2", "attack.0.step_size=0.001")
NAMED = "steps 2 (strict: by round), step_size 0.001 (strict: by round), type pgd (strict: cascade)"


def rows_of(said):
    assert said.code == 0, said.err
    return json.loads(said.out)["attacks"]


@pytest.fixture
def weakened(cli, runs):
    """A run of PGD under strict with two short steps."""
    said = cli("attack", "--protocol", "strict", *FEW, *SHORT)
    assert said.code == 0, said.err
    return said.out


@pytest.mark.parametrize(
    ("kind", "option", "own"),
    [
        ("pgd", "step_size=0.001", "by round"),
        ("pgd", "targeted=true", "by round"),
        ("pgd", "selection_samples=1", 20),
        ("pgd", "steps=3", "by round"),
        ("apgd", "n_targets=1", 9),
        ("apgd", "loss='ce'", ["nll", "ce", "dlr", "margin"]),
        ("autoattack", "steps=2", 100),
        ("square", "queries=3", 5000),
        ("torchattacks/bim", "alpha=0.001", 2 / 255),
    ],
)
def test_an_option_that_is_weaker_than_the_protocols_makes_a_row_that_is_not_strict(cli, runs, kind, option, own):
    quick = [] if option.startswith("steps") or kind not in ("pgd", "apgd") else ["attack.0.steps=2"]
    changes = sets(f"attack.0.{option}", *quick)
    (row,) = rows_of(cli("attack", "--type", kind, "--protocol", "strict", "--json", *FEW, *changes))
    name, _, value = option.partition("=")
    deviations = {each["name"]: each for each in row["deviations"]}
    assert row["protocol"] == "weaker"
    assert deviations[name]["weaker"] is True
    assert str(deviations[name]["value"]).lower() == value.strip("'")
    assert deviations[name]["own"] == own


@pytest.mark.parametrize("kind", ["fgsm", "torchattacks/onepixel"])
def test_an_attack_that_strict_has_no_settings_for_is_not_strict(cli, runs, kind):
    ball = ("--norm", "l1", "--eps", "12") if "pixel" in kind else ()
    (row,) = rows_of(cli("attack", "--type", kind, *ball, "--protocol", "strict", "--json", *FEW))
    own = ["cascade", "pgd", "apgd", "autoattack"]
    assert row["protocol"] == "weaker"
    assert row["deviations"] == [{"name": "type", "value": kind, "own": own, "weaker": True}]


def test_fewer_draws_a_gradient_than_strict_takes_are_not_strict(cli, runs):
    options = sets("attack.0.steps=2", "attack.0.loss=ce")
    (row,) = rows_of(cli("attack", "--type", "apgd", "--protocol", "strict", "--eot", "19", "--json", *FEW, *options))
    assert row["protocol"] == "weaker"
    assert row["deviations"][0] == {"name": "eot", "value": 19, "own": 20, "weaker": True}


def test_more_work_than_strict_asks_for_is_named_too(cli, runs):
    few = ("--limit", "1", "--samples", "1")
    options = sets("attack.0.steps=101")
    said = cli("attack", "--type", "autoattack", "--protocol", "strict", "--eot", "21", "--json", *few, *options)
    (row,) = rows_of(said)
    assert row["protocol"] == "strict"
    assert [(each["name"], each["value"], each["own"], each["weaker"]) for each in row["deviations"]] == [
        ("eot", 21, 20, False),
        ("steps", 101, 100, False),
    ]


def test_more_draws_in_every_round_are_named_and_stay_strict(cli, runs):
    (row,) = rows_of(cli("attack", "--protocol", "strict", "--eot", "21", "--json", "--limit", "1", "--samples", "1"))
    assert row["protocol"] == "strict"
    assert row["deviations"] == [{"name": "eot", "value": 21, "own": 8, "weaker": False}]


def test_the_terminal_names_what_is_weaker_in_every_table_and_has_no_strict_column(weakened):
    assert "weaker % [95%]" in weakened
    assert "strict % [95%]" not in weakened
    tables = weakened.partition("robust accuracy")[2]
    assert all(
        " ".join(part.split()).count("steps 2 (strict: by round)") == 1 for part in tables.split("first to break")
    )
    assert "2 steps of 0.001 reach 0.002, and the ball has the radius 8/255" in weakened


def test_options_under_the_protocol_paper_are_named_in_the_table(cli, runs):
    said = cli("attack", "--protocol", "paper", *FEW, *sets("attack.0.steps=2"))
    assert "steps 2 (paper: 40)" in said.out.partition("robust accuracy")[2]


def test_lists_of_runs_name_what_is_weaker(cli, runs, weakened):
    run = only(runs, "attack")
    rows = json.loads(cli("runs", "list", "--json").out)["runs"]
    (figure,) = (row["figure"] for row in rows if row["verb"] == "attack")
    assert figure.endswith(f"% pgd l-inf 8/255 weaker, m = 1, n = 2; {NAMED}")
    shown = cli("runs", "show", run.name).out
    assert f"not the protocol's own settings: {NAMED}" in shown
    assert "weaker: strict with weaker settings" in shown
    assert "weaker: strict with weaker settings" in cli("runs", "list").out


def test_a_comparison_names_what_is_weaker(cli, runs, weakened):
    first = only(runs, "attack").name
    cli("attack", "--protocol", "strict", *FEW, *SHORT, "-q")
    compared = cli("runs", "compare", first, only(runs, "attack").name, "--json")
    (test,) = json.loads(compared.out)["significance"]
    assert test["what"]["protocol"] == "weaker"
    assert [each["name"] for each in test["what"]["deviations"]] == ["steps", "step_size", "type"]


def test_a_report_quotes_no_weakened_figure_as_strict(cli, runs, weakened):
    folder = only(runs, "finetune")
    assert cli("report", str(folder)).code == 0
    text, page = (next(folder.rglob(f"report.{kind}")).read_text() for kind in ("md", "html"))
    assert "No attack was as strong as the strict protocol" in text
    assert "a strict attack (rushkit attack" in text
    assert r"weaker % \[95%\]" in text
    assert r"| strict % \[95%\]" not in text
    assert NAMED.replace("_", r"\_") in text
    assert NAMED in page
