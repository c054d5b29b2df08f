from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path

import pytest
from commands import contents, only, sets

from rushkit import registries
from rushkit.cli import app as app_module
from rushkit.cli.app import main
from rushkit.recipe.find import shipped_folder
from rushkit.recipe.schema import Noise
from rushkit.registry import Entry
from rushkit.results import dump
from rushkit.results.attacks import AttackOutcomes, AttackRow, Attacks, Candidate, RuleFigures


def test_recipe_show_prints_the_file_as_it_is(cli):
    text = (shipped_folder() / "cifar10.toml").read_text(encoding="utf-8")
    assert cli("recipe", "show", "cifar10").out.rstrip() == text.rstrip()


def test_recipe_show_resolved_is_toml_that_loads_back(cli):
    said = cli(
        "recipe",
        "show",
        "digits",
        "--resolved",
        *sets("pretrain.epochs=3", "data.name=folder", "data.path=:smile: [bold]"),
    )
    table = tomllib.loads(said.out)
    assert table["pretrain"]["epochs"] == 3
    assert table["data"]["path"] == ":smile: [bold]"
    assert table["schema"] == 1
    assert (
        json.loads(cli("recipe", "show", "digits", "--json", *sets("pretrain.epochs=3")).out)["pretrain"]["epochs"] == 3
    )


def test_recipe_show_tells_where_each_value_comes_from(cli, monkeypatch):
    monkeypatch.setenv("RUSHKIT_DATA", "/there")
    said = cli("recipe", "show", "digits", "--origins", *sets("pretrain.epochs=3"))
    lines = {line.partition(" = ")[0]: line.partition("  # ")[2] for line in said.out.splitlines()}
    assert lines["pretrain.epochs"] == "--set pretrain.epochs"
    assert lines["system.data_dir"] == "RUSHKIT_DATA"
    assert lines["system.device"] == "default"
    # The digits' backbone is another one than that of the recipe that it extends.
    where, _, took = lines["backbone.name"].partition(" (")
    assert took == 'which takes away stem = "small" of resnet18)'
    file, _, line = where.rpartition(":")
    assert file.endswith("digits.toml")
    assert Path(file).read_text(encoding="utf-8").splitlines()[int(line) - 1] == 'name = "resnet10-small"'
    assert lines["noise.scale"].rpartition(":")[0].endswith("cifar10.toml")


def test_recipe_list_shows_every_recipe_and_survives_a_broken_one(cli, folder, monkeypatch):
    (folder / "recipes").mkdir()
    (folder / "recipes" / "mine.toml").write_text("# My own.\n")
    (folder / "recipes" / "binary.toml").write_bytes(b"\xff\xfe")
    broken = Entry("theirs", "rushkit-theirs", "1", "tests_no_such_module:x")
    monkeypatch.setattr(registries.recipes, "_entries", [broken])
    said = cli("recipe", "list", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["mine"] == {"from": "recipes/mine.toml", "about": "My own."}
    assert found["cifar10"]["about"].startswith("RUSH on CIFAR-10 with ResNet-18")
    assert "cannot be read" in found["binary"]["about"]
    assert found["theirs"]["about"].startswith("cannot be used: 'theirs' of rushkit-theirs")


def test_recipe_copy_writes_the_file_and_overwrites_nothing(cli, fails, folder):
    assert cli("recipe", "copy", "digits", "mine.toml").code == 0
    assert (folder / "mine.toml").read_bytes() == (shipped_folder() / "digits.toml").read_bytes()
    assert cli("recipe", "check", "mine.toml").code == 0
    before = contents(folder)
    assert "mine.toml exists already" in fails(2, "recipe", "copy", "cifar10", "mine.toml").err
    assert contents(folder) == before
    assert cli("recipe", "copy", "cifar10", ".").code == 0
    assert (folder / "cifar10.toml").is_file()


def test_recipe_copy_into_no_folder_is_explained(fails, folder):
    assert "no/such/mine.toml" in fails(1, "recipe", "copy", "cifar10", "no/such/mine.toml").err


def test_recipe_check_names_what_is_wrong(cli, fails):
    assert cli("recipe", "check", "cifar10").out == "cifar10 is in order\n"
    said = fails(2, "recipe", "check", "cifar10", *sets("pretrain.epoch=1", "noise.scal=1"))
    assert "--set pretrain.epoch: unknown key; did you mean epochs?" in said.err
    assert "--set noise.scal: unknown key; did you mean scale?" in said.err


def test_plugins_lists_every_component_with_owner_and_version(cli):
    rows = json.loads(cli("plugins", "--json").out)["components"]
    assert {
        "registry": "rushkit.noises",
        "name": "uniform",
        "owner": "rushkit",
        "version": app_module.__version__,
    } in rows
    assert "rushkit.noises" in cli("plugins").out


def test_plugins_check_names_the_broken_ones_and_exits_3(cli, fails, monkeypatch):
    broken = Entry("broken", "rushkit-broken", "1.2", "tests_no_such_module:x")
    monkeypatch.setattr(registries.noises, "_entries", [*registries.noises.entries(), broken])
    assert cli("plugins").code == 0
    said = fails(3, "plugins", "--check", "--json")
    assert "rushkit-broken/broken" in said.err
    rows = json.loads(said.out)["components"]
    assert [row["name"] for row in rows if row["problem"]] == ["broken"]
    assert "tests_no_such_module" in fails(3, "recipe", "check", "digits", *sets("noise.name=broken")).err


def test_runs_list_and_show(cli, fails, runs):
    run = only(runs, "pretrain")
    assert run.name[-6:] in cli("runs", "list").out
    rows = json.loads(cli("runs", "list", "--json").out)["runs"]
    assert [(row["verb"], row["status"]) for row in rows] == [("finetune", "finished"), ("pretrain", "finished")]
    assert rows[1]["figure"].startswith("kNN ")
    assert "files: " in cli("runs", "show", run.name).out
    assert json.loads(cli("runs", "show", str(run), "--json").out)["verb"] == "pretrain"
    assert "there is no run 'nothing'" in fails(2, "runs", "show", "nothing").err
    assert cli("runs", "list", "--runs-dir", "elsewhere").out == "there are no runs in elsewhere\n"


def facts(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith(" "))


def test_runs_show_tells_results_family_and_what_to_do_next(cli, runs):
    encoder, model = only(runs, "pretrain"), only(runs, "finetune")
    said = cli("evaluate", "--samples", "1", "-q")
    assert said.code == 0, said.err
    evaluated = only(runs, "evaluate")
    shown = cli("runs", "show", model.name).out
    assert facts(shown)["built on"] == encoder.name
    assert facts(shown)["builds on it"] == evaluated.name
    assert facts(shown)["measure it"].startswith(f"rushkit evaluate --from {Path('runs') / model.name}")
    assert facts(cli("runs", "show", encoder.name).out)["fine-tune it"].endswith(encoder.name)
    shown = cli("runs", "show", evaluated.name).out
    assert "digits/test, m = 1, majority: " in shown
    assert "n = 32" in shown
    found = json.loads(cli("runs", "show", evaluated.name, "--json").out)
    assert (found["parent_run"], found["children"]) == (model.name, [])
    assert "n = 32" in found["figures"][0]
    assert "at m = 1, n = 32" in cli("runs", "list").out


def test_runs_show_of_a_stopped_run_says_how_to_go_on(cli, runs):
    run = only(runs, "pretrain")
    facts_of = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts_of, "status": "interrupted"}))
    (run / "results.json").unlink()
    shown = cli("runs", "show", run.name).out
    assert facts(shown)["go on with it"] == f"rushkit pretrain --resume --run {Path('runs') / run.name}"
    assert "results: none" in shown


def attacked(protocol: str) -> str:
    """results.json of an attack on two images, of which one is still right."""
    rules = {
        "majority": RuleFigures(
            accuracy=0.5, low=0.1, high=0.9, clean_accuracy=1.0, any_failure_accuracy=0.5, flip_rate=0.0
        )
    }
    row = AttackRow(
        split="digits/test",
        attack="pgd",
        norm="linf",
        eps=0.1,
        protocol=protocol,
        samples=1,
        deviations=[],
        votes=1,
        gradient_samples=1,
        candidates=[Candidate(label="pgd", options={})],
        images=2,
        rules=rules,
        outcomes=AttackOutcomes(
            images=[0, 1],
            right={"majority": [1, 0]},
            clean_right={"majority": [1, 1]},
            labels=[0, 1],
            chosen=[0, 0],
            indices=[0, 1],
        ),
        seconds=1.0,
        image_forwards=1,
        image_backwards=1,
        contributions={"pgd": 1},
        notes=[],
    )
    noise = Noise(name="none")
    return dump(Attacks(recipe="digits", source="x", data="digits", noise=noise, attacks=[row], failed=[]))


def test_runs_list_shows_no_figure_of_the_protocol_paper_without_its_note(cli, runs):
    run = only(runs, "finetune")
    for protocol, noted in (("paper", True), ("strict", False)):
        (run / "results.json").write_text(attacked(protocol))
        for words in (("list",), ("show", run.name)):
            assert ("it is not the model's robustness" in cli("runs", *words).out) == noted


def test_runs_list_survives_results_of_another_version(cli, runs):
    (only(runs, "finetune") / "results.json").write_text('{"stage": "evaluate"}')
    assert "damaged results" in cli("runs", "list").out


def test_data_list_and_check(cli, fails, folder):
    found = json.loads(cli("data", "list", "--json").out)["datasets"]
    assert found["digits"]["ready"]
    assert not found["cifar10"]["ready"]
    assert json.loads(cli("data", "check", "digits", "--json").out)["ready"]
    said = fails(1, "data", "check", "cifar10")
    assert "missing" in said.out
    assert "'cifar11' is neither a data set nor" in fails(2, "data", "check", "cifar11").err


@pytest.mark.parametrize("verb", ["demo", "pretrain", "finetune", "evaluate", "attack", "plugins"])
def test_every_verb_has_help_with_an_example(cli, verb):
    said = cli(verb, "--help")
    assert said.code == 0
    assert f"Example: rushkit {verb}" in said.out


@pytest.mark.parametrize(
    "verbs",
    [
        ("recipe", "list"),
        ("recipe", "show"),
        ("recipe", "copy"),
        ("recipe", "check"),
        ("data", "list"),
        ("data", "fetch"),
        ("data", "check"),
        ("runs", "list"),
        ("runs", "show"),
    ],
)
def test_every_second_verb_has_help_with_an_example(cli, verbs):
    assert f"Example: rushkit {' '.join(verbs)}" in cli(*verbs, "--help").out


def test_the_version(cli):
    assert cli("--version").out == f"rushkit {app_module.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["pretrain", "--nothing"],
        ["pretrain", "--recipe"],
        ["attack", "--limit", "-1"],
        ["attack", "--protocol", "x"],
    ],
)
def test_a_command_line_that_cannot_be_parsed_is_2(cli, arguments):
    said = cli(*arguments)
    assert said.code == 2
    assert "Traceback" not in said.err
    assert said.out == ""


def stand_in(monkeypatch, error: BaseException) -> None:
    def raises(**_: object) -> None:
        raise error

    monkeypatch.setattr(app_module, "app", raises)


def test_a_bug_is_one_message_and_with_debug_a_traceback(cli, monkeypatch):
    stand_in(monkeypatch, ZeroDivisionError("oh"))
    said = cli("recipe", "list")
    assert said.code == 1
    assert said.err.startswith(
        "error: an error inside rushkit: ZeroDivisionError: oh\nhint: run the command again with --debug"
    )
    assert "Traceback" in cli("recipe", "list", "--debug").err
    monkeypatch.setenv("RUSHKIT_DEBUG", "1")
    assert "Traceback" in cli("recipe", "list").err


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried"),
        RuntimeError("[enforce fail] can't allocate memory: x"),
    ],
)
def test_out_of_memory_says_what_to_make_smaller(cli, monkeypatch, error):
    stand_in(monkeypatch, error)
    said = cli("recipe", "list")
    assert said.code == 1
    assert said.err.startswith("error: out of memory: ")
    assert "pretrain.batch_size=N" in said.err


def test_debug_is_taken_by_every_verb(cli):
    assert cli("recipe", "show", "digits", "--debug").code == 0
    assert cli("--debug", "runs", "list").code == 0
    assert "Traceback" in cli("recipe", "show", "nothing", "--debug").err


def test_an_interrupt_is_130(cli, monkeypatch):
    stand_in(monkeypatch, KeyboardInterrupt())
    said = cli("recipe", "list")
    assert (said.code, said.err) == (130, "error: interrupted\n")


@pytest.mark.parametrize("code, expected", [(0, 0), (7, 7), (None, 0), ("words", 1)])
def test_an_exit_keeps_its_code(cli, monkeypatch, code, expected):
    stand_in(monkeypatch, SystemExit(code))
    assert cli("recipe", "list").code == expected


def test_an_interrupt_inside_a_verb_is_130(cli, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rushkit.recipe.find.available", interrupted)
    assert cli("recipe", "list").code == 130


def test_a_reader_that_goes_away_is_no_traceback(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as broken, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", broken)
        code = main(["plugins", "--json"])
        code = code or main(["plugins", "--json"])
    assert code in (0, 1)


def test_no_colour_where_there_is_no_terminal(cli):
    said = cli("recipe", "show", "nothing")
    assert "\x1b" not in said.err + cli("recipe", "list").out


def test_a_name_that_the_terminal_cannot_show_is_escaped(cli, capsys):
    assert cli("recipe", "show", "naïve\udcff").code == 2


def test_python_m_rushkit_is_the_same_command():
    import runpy

    argv, sys.argv = sys.argv, ["rushkit", "--version"]
    try:
        with pytest.raises(SystemExit) as stop:
            runpy.run_module("rushkit", run_name="__main__")
    finally:
        sys.argv = argv
    assert stop.value.code == 0
    assert Path(app_module.__file__).name == "app.py"


def test_json_escapes_control_characters_and_reads_back_the_same(cli, folder):
    name = "r\x1b[2J\x9b2J\x7f\u202e"
    (folder / "runs" / "foreign").mkdir(parents=True)
    facts = {"verb": "pretrain", "recipe": name, "status": "failed", "started": "2030-01-01T00:00:00+00:00"}
    (folder / "runs" / "foreign" / "run.json").write_text(json.dumps(facts))
    out = cli("runs", "list", "--json").out
    assert all(character == "\n" or " " <= character <= "~" for character in out)
    assert json.loads(out)["runs"][0]["recipe"] == name
