"""The worst of everything: strict attacks on one model and the same images, in every form of a report."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console
from synthetic_runs import Runs, attack_row, attacks, finetuning, recipe_of

from rushkit.recipe.schema import Noise
from rushkit.report.content import build_report
from rushkit.report.families import gather
from rushkit.report.summary import summary
from rushkit.report.taken_together import worst_of
from rushkit.report.terminal.comparison import comparison_table
from rushkit.report.worst import LEANS
from rushkit.report.write import write_report
from rushkit.results.attacks import Attacks

SURROGATE = {"name": "surrogate", "value": "d.py:smooth", "own": None, "weaker": False}
# Of 10 votes: what two attacks leave of four images. Five of ten is no majority.
FIRST, SECOND = (10, 6, 5, 10), (10, 0, 10, 4)


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


def family(runs, *rows, **facts):
    """The model of these rows, each from a run of its own."""
    model = runs.add("finetune", results=finetuning())
    for row in rows:
        runs.add("attack", model, attacks(row), **facts)
    return gather(model)


def worst(family):
    return worst_of(family.results(Attacks))


def test_an_image_is_broken_where_any_attack_leaves_at_most_half_of_its_votes(runs):
    (found,) = worst(family(runs, attack_row(FIRST), attack_row(SECOND, deviations=[SURROGATE])))
    assert found.broken == [1, 2, 3]
    assert (found.accuracy, found.images) == (0.25, 4)
    assert found.low < 0.25 < found.high
    assert [(part.broke, part.only) for part in found.parts] == [(1, 1), (2, 2)]
    assert [part.words for part in found.parts] == ["pgd strict", "pgd strict: gradients of d.py:smooth"]
    assert found.by_chance
    assert found.statement().endswith(LEANS)


def test_where_one_vote_decides_nothing_leans(runs):
    rows = [attack_row([int(right > 5) for right in votes], votes=1) for votes in (FIRST, SECOND)]
    (found,) = worst(family(runs, *rows))
    assert not found.by_chance
    assert found.statement("noise none") == (
        "Under 2 strict attacks together, l-inf 8/255: at most 25.0 % [4.5, 70.0] of 4 images of cifar10/test stay "
        "right under every one of them, by most of their votes (m = 64, noise none). This is an upper bound: a "
        "stronger attack may leave fewer."
    )


def test_several_attacks_of_one_run_are_taken_together_too(runs):
    model = runs.add("finetune", results=finetuning())
    runs.add("attack", model, attacks(attack_row(FIRST), attack_row(SECOND, attack="autoattack")))
    (found,) = worst(gather(model))
    assert [part.words for part in found.parts] == ["pgd strict", "autoattack strict"]


OTHERS = {
    "another ball": {"eps": 4 / 255},
    "another norm": {"norm": "l2"},
    "another m": {"samples": 1},
    "another split": {"split": "cifar10/train"},
    "other images": {"images": [0, 1, 2, 9]},
    "other labels": {"labels": [3, 1, 2, 3]},
    "another protocol": {"protocol": "paper", "votes": 10},
    "a weaker attack": {"protocol": "weaker"},
    "8-bit pixels": {"eight_bit": True},
}


@pytest.mark.parametrize("change", OTHERS)
def test_what_was_measured_of_something_else_is_not_taken_together(change, runs):
    facts = dict(OTHERS[change])
    eight_bit = facts.pop("eight_bit", False)
    second = attack_row(SECOND, **facts)
    assert worst(family(runs, attack_row(FIRST), second.with_changes(eight_bit=eight_bit))) == []


def test_neither_are_runs_of_another_model_noise_or_data_or_not_finished(runs):
    model = runs.add("finetune", results=finetuning())
    runs.add("attack", model, attacks(attack_row(FIRST)), hashes={"parent": "a" * 64})
    runs.add("attack", model, attacks(attack_row(SECOND)), hashes={"parent": "b" * 64})
    runs.add("attack", model, attacks(attack_row(SECOND), noise=Noise(name="none")), hashes={"parent": "a" * 64})
    runs.add(
        "attack", model, attacks(attack_row(SECOND)), recipe_of("cifar10", "data.limit=9"), hashes={"parent": "a" * 64}
    )
    runs.add("attack", model, attacks(attack_row(SECOND)), status="running", hashes={"parent": "a" * 64})
    assert worst(gather(model)) == []


def test_one_run_named_twice_is_one_run(runs):
    (pair,) = family(runs, attack_row(FIRST)).results(Attacks)
    assert worst_of([pair, pair]) == []


def test_page_markdown_json_and_sentences_have_it(runs, tmp_path):
    members = family(runs, attack_row(FIRST), attack_row(SECOND, deviations=[SURROGATE]))
    write_report([members], tmp_path / "page", images=False)
    html, markdown, data = ((tmp_path / "page" / f"report.{kind}").read_text() for kind in ("html", "md", "json"))
    assert "<b>25.0</b>" in html.partition("The worst of everything")[2]
    assert "all 2 together" in markdown.partition("### The worst of everything")[2]
    (found,) = json.loads(data)["models"][0]["worst"]
    assert (found["accuracy"], found["broken"]) == (0.25, [1, 2, 3])
    assert [part["only"] for part in found["parts"]] == [1, 2]
    said = summary(build_report([members]).models[0])
    together = next(place for place, line in enumerate(said) if line.startswith("Under 2 strict attacks together"))
    assert said[together + 1].startswith("Under pgd, l-inf 8/255, strict"), "the lowest alone follows"


def test_the_terminal_shows_what_took_part_and_the_sentence(runs):
    found = worst(family(runs, attack_row(FIRST), attack_row(SECOND)))
    out = StringIO()
    Console(file=out, width=200).print(comparison_table([], [], {}, [], [], [], found))
    (line,) = (line for line in out.getvalue().splitlines() if "all 2 together" in line)
    assert "25.0 [4.5, 70.0]" in line
    assert "Under 2 strict attacks together" in out.getvalue()
