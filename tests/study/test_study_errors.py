"""What is wrong with a study is said at once, each with its place, and one thing in one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rushkit.errors import RushkitError, UsageError
from rushkit.study.load import parse_study
from rushkit.study.make import make_plan
from rushkit.study.schema import StudyAsked
from rushkit.study.stages import ASKED

HEAD = 'schema = 1\ntitle = "a study"\n'
ROW = '[[row]]\nlabel = "A"\nrecipe = "digits"\n'
FINE = '[[stage]]\ndo = "pretrain"\n[[stage]]\ndo = "finetune"\n'


def error_of(text: str) -> str:
    with pytest.raises(UsageError) as error:
        make_plan(parse_study(text, Path("mine.toml")), Path("no-runs"))
    return error.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[row]]\nlabel = "A"\n',
            "mine.toml:7: row.0: the row starts from nothing: it needs recipe, run, checkpoint, model or",
        ),
        (ROW + 'run = "x"\n', "mine.toml:10: row.0.run: the row has a recipe already"),
        (ROW + "recip = 3\n", "mine.toml:10: row.0.recip: unknown key; did you mean recipe?"),
        (ROW + "seeds = [1, 2, 1]\n", "mine.toml:10: row.0.seeds: names the seed 1 twice"),
        (ROW + "seeds = 1000000000\n", "mine.toml:10: row.0.seeds: must be a list"),
        (ROW + "set = { system.seed = 3 }\n", "mine.toml:10: row.0.set: system.seed is what `seeds` says"),
        (
            ROW + "set = { pretrain.epoch = 3 }\n",
            "mine.toml:10: pretrain.epoch: unknown key; did you mean epochs?",
        ),
        (
            ROW + 'published = ["rush-cifar10-voet"]\n',
            "no published row 'rush-cifar10-voet' (number 1); did you mean rush-",
        ),
        (ROW + '[[row.stage]]\ndo = "evaluate"\n', "mine.toml:10: row.0.stage.0: evaluate has no model"),
        (ROW + '[[row.stage]]\ndo = "pretrain"\nepoch = 3\n', "row.0.stage.0.epoch: unknown key; did you mean epochs?"),
        (
            ROW + '[[row.stage]]\ndo = "pretrain"\n[[row.stage]]\ndo = "pretrain"\n',
            "mine.toml:12: row.0.stage.1: two stages are called 'pretrain'",
        ),
        (ROW + '[[row.stage]]\ndo = "finetune"\nfrom = "B/pretrain"\n', "row.0.stage.0.from: no row 'B'"),
        (ROW + '[[row.stage]]\ndo = "finetune"\nfrom = "pretrian"\n', "has no stage 'pretrian'"),
        (ROW + "[engine.slum]\n", "engine.slum: unknown engine 'slum'"),
        (ROW.replace("digits", "digts"), "mine.toml:9: row.0.recipe: unknown recipe 'digts'"),
        (ROW.replace("digits", "deacl-digits"), "learns from a teacher, and none is named"),
        (ROW.replace("digits", "advcl-digits"), "pretrain learns the labels of a clustering, and none is named"),
    ],
)
def test_a_mistake_is_said_with_its_place(text, message):
    assert message in error_of(HEAD + FINE + text)


BESIDE = '[[row.stage]]\ndo = "evaluate"\nlabel = "B"\nbaseline = "evaluate"\n'
FOG = "set = {{ evaluate.corruptions = [{}] }}\n"


@pytest.mark.parametrize(
    ("plain", "beside", "message"),
    [
        ("", "", "row.0.stage.3: `baseline` is for errors under corruptions, and this stage measures none"),
        (FOG.format("'snow'"), FOG.format("'fog'"), "the stage of `baseline` does not measure fog"),
        (FOG.format("'fog'"), FOG.format("'fog'") + "limit = 7\n", "the stage of `baseline` measures other images"),
        (
            FOG.format("'fog'"),
            "set = { evaluate.corruptions = ['fog'], evaluate.strengths = [2] }\n",
            "measures other strengths",
        ),
    ],
)
def test_a_baseline_measures_the_same_corruptions_of_the_same_images(plain, beside, message):
    stages = FINE.replace("[[stage]]", "[[row.stage]]") + '[[row.stage]]\ndo = "evaluate"\n' + plain
    assert message in error_of(HEAD + ROW + stages + BESIDE + beside)


def test_stages_that_wait_for_each_other_are_named():
    one = '[[row]]\nlabel = "A"\nrecipe = "digits"\n[[row.stage]]\ndo = "pretrain"\nfrom = "B/pretrain"\n'
    other = one.replace('"A"', '"B"', 1).replace("B/pretrain", "A/pretrain")
    assert "stages wait for each other: A/pretrain -> B/pretrain -> A/pretrain" in error_of(HEAD + one + other)


def test_all_mistakes_come_at_once():
    message = error_of(HEAD + FINE + ROW + "recip = 1\n" + ROW + "seeds = []\n" + '[[stage]]\ndo = "atack"\n')
    assert message.startswith("the study has 4 errors:")
    assert len(re.findall(r"^  mine\.toml:\d+: ", message, re.MULTILINE)) == 4


def test_more_jobs_than_anybody_runs_are_refused_before_they_are_made():
    seeds = ", ".join(map(str, range(1000)))
    rows = "".join(f'[[row]]\nlabel = "{index}"\nrecipe = "digits"\n' for index in range(60))
    message = error_of(f"{HEAD}seeds = [{seeds}]\n{FINE}{rows}")
    assert "the study has 120000 jobs, more than 100000" in message


@pytest.mark.parametrize(
    "text",
    ["", "schema = 2", "schema = [", HEAD, f"{HEAD}row = 3", f"{HEAD}stage = {{ do = 1 }}", f"{HEAD}{ROW}stage = [3]"],
)
def test_what_is_no_study_is_one_message(text):
    with pytest.raises(RushkitError):
        make_plan(parse_study(text, Path("mine.toml")), Path("no-runs"))


def test_the_page_names_every_key():
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    shared = {"do", "label", "from", "set", "labels"}
    for command, model in ASKED.items():
        named = set(re.findall(r"`(\w+)`", rows[command].split("|")[2]))
        assert named == set(model.key_names()) - shared
    assert all(f"`{key}`" in page or f"[{key}" in page for key in StudyAsked.key_names())
