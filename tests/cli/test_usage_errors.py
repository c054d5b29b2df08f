"""A command line that cannot be understood: the house's message and hint, never Typer's boxes."""

from __future__ import annotations

import pytest
from commands import sets

from rushkit.cli import app


@pytest.mark.parametrize(
    "arguments, message, hint",
    [
        ("evaluat", "no such command 'evaluat'. Did you mean 'evaluate'?", "`rushkit --help` shows its commands"),
        ("recipe shwo", "no such command 'shwo'. Did you mean 'show'?", "`rushkit recipe --help` shows its commands"),
        ("evaluate --sampls 3", "no such option: --sampls", "did you mean --samples?"),
        ("evaluate -x", "no such option: -x", "`rushkit evaluate --help` shows its options, with an example"),
        ("certify --norm foo", "--norm: 'foo' is not one of 'l1', 'l2', 'linf'", "`rushkit certify --help` shows"),
        ("certify --alpha x", "--alpha: must be a number (got 'x')", "`rushkit certify --help` shows"),
        ("attack --limit 3.5", "--limit: must be a whole number (got '3.5')", "`rushkit attack --help` shows"),
        (
            "attack --limit -3",
            "--limit: must be greater than or equal to 0 (got '-3')",
            "`rushkit attack --help` shows",
        ),
        ("attack --eps", "option '--eps' requires an argument", "`rushkit attack --help` shows"),
        ("evaluate --json=3", "option '--json' does not take a value", "`rushkit evaluate --help` shows"),
        ("predict", "missing argument 'IMAGE...'", "`rushkit predict --help` shows"),
        ("recipe copy cifar10", "missing argument 'target'", "`rushkit recipe copy --help` shows"),
        ("evaluate digits", "got unexpected extra argument(s) (digits)", "did you mean --from digits?"),
        ("attack pgd", "got unexpected extra argument(s) (pgd)", "did you mean --type pgd?"),
        ("pretrain digits", "got unexpected extra argument(s) (digits)", "did you mean --recipe digits?"),
        ("evaluate one two", "got unexpected extra argument(s) (one two)", "`rushkit evaluate --help` shows"),
        ("evaluate --from x y", "got unexpected extra argument(s) (y)", "`rushkit evaluate --help` shows"),
        ("--json pretrain", "no such option: --json", "options follow the command: rushkit pretrain --json"),
        ("runs --json list", "no such option: --json", "options follow the command: rushkit runs list --json"),
        ("--josn pretrain", "no such option: --josn", "`rushkit --help` shows its commands"),
        ("attack --eps 8 255", "got unexpected extra argument(s) (255)", "did you mean --eps 8/255?"),
        ("probe --eps 8 255 -q", "got unexpected extra argument(s) (255)", "did you mean --eps 8/255?"),
    ],
)
def test_a_command_line_that_cannot_be_understood(fails, arguments, message, hint):
    said = fails(2, *arguments.split())
    first, second = said.err.splitlines()
    assert first == f"error: {message}"
    assert second.startswith(f"hint: {hint}")
    assert said.out == ""


@pytest.mark.parametrize("group", [[], ["recipe"], ["data"], ["runs"]])
def test_a_group_without_a_command_shows_its_commands(cli, group):
    said = cli(*group)
    assert said.code == 2
    assert "Commands" in said.out
    assert said.err == ""


def test_help_tells_the_exit_codes(cli):
    said = cli("--help")
    assert said.code == 0
    assert "0 done, 1 failed, 2 wrong use, 3 a plugin's fault, 130 interrupted" in said.out


def test_ctrl_c_is_exit_code_130(cli, monkeypatch):
    def stop() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("rushkit.recipe.find.available", stop)
    assert cli("recipe", "list").code == 130


def test_a_command_that_exits_by_itself_keeps_its_code(monkeypatch):
    def leave(**_: object) -> None:
        raise SystemExit(7)

    monkeypatch.setattr(app, "app", leave)
    assert app.main([]) == 7


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("evaluate --samples 0", "--samples: evaluate.samples.0: must be greater than or equal to 1 (got 0)"),
        ("certify --alpha 2", "--alpha: certify.alpha: must be less than 1 (got 2.0)"),
        ("certify --radius far", "--radius: certify.radii.0: must be a number such as 0.03 or 8/255 (got 'far')"),
        ("certify --skip 0", "--skip: must be greater than or equal to 1 (got '0')"),
        ("predict here.png --alpha 0", "--alpha: certify.alpha: must be greater than 0 (got 0.0)"),
        (
            "attack --eps 8",
            "--eps: attack.0.eps: must be in pixel units, where 1 is the whole range; did you mean 8/255?",
        ),
    ],
)
def test_a_value_that_the_recipe_refuses_is_named_by_its_flag(fails, runs, arguments, words):
    assert f"error: {words}" in fails(2, *arguments.split()).err


def test_all_mistakes_of_sections_and_components_come_at_once(fails, folder):
    said = fails(2, "pretrain", "--recipe", "digits", *sets("pretrain.epochs=0", "noise.sclae=1", "backbone.stem=x"))
    assert "the recipe has 3 errors:" in said.err
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    "more",
    [
        ["--json", "--json"],
        ["--set", "pretrain.epochs=3"],
        ["--set", 'noise={name="gaussian"}', "--set", "noise.std=0.5"],
        ["--set", "noise.std=0.5", "--set", "noise.name=gaussian"],
    ],
)
def test_what_is_said_twice_and_drops_nothing_is_taken(cli, more):
    said = cli("recipe", "show", "digits", "--resolved", "--set", "pretrain.epochs=3", *more)
    assert said.code == 0, said.err
