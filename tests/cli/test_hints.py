"""Hints name commands, flags and keys that there are, with paths that a shell takes for one word."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hints import HOLE, problems, repeats

PACKAGE = Path(__file__).parents[2] / "rushkit"
# Values behind an option that are no paths: numbers, names that rushkit gave, and a word that the user gave and that an
# error (not a hint) repeats.
_CALLS = ("max(", "min(", "smallest_samples(", "shorten(")
_NAMES = {
    "' and '.join(_KEYS)",
    "' or '.join(fitting)",
    "', '.join(found.supplied)",
    "SCHEMA",
    "branch",
    "by",
    "change",
    "changed_by[twice]",
    "changed_by[undone[0]]",
    "choice",
    "condition",
    "device.type",
    "form.size",
    "own",
    "ids[0]",
    "image_size",
    "job.stage",
    "key",
    "kinds",
    "known[0]",
    "name",
    "norm",
    "other[0]",
    "pair",
    "pattern",
    "rule",
    "run",
    "self._stage",
    "self.dataset",
    "self.nproc",
    "self.stage",
    "settings.norm",
    "size",
    "sort",
    "theirs",
    "where",
}
_TAKES_A_WORD = re.compile(r"--[a-z-]+[ =](?:[a-z_.]+=)?$|rushkit [a-z ]+$")


def words_of(node: ast.AST) -> str | None:
    """The text of an expression, with a hole for each value that it does not know; None if it is no text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr():
            return "".join(words_of(value) or HOLE for value in node.values)
        case ast.FormattedValue(value=ast.Call(func=ast.Name(id="shell_line")) as call):
            return words_of(call)
        case ast.BinOp(op=ast.Add()):
            left, right = words_of(node.left), words_of(node.right)
            return None if left is None and right is None else f"{left or HOLE}{right or HOLE}"
        case ast.Call(func=ast.Name(id="shell_line")):
            return " ".join(words_of(word) or HOLE for word in node.args)
    return None


def texts() -> Iterator[tuple[str, int, str, ast.AST]]:
    """Every text in the package but docstrings and the parts of longer texts: its file, line, words and node."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        seen: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                seen.add(id(node.value))
        for node in ast.walk(tree):
            if id(node) in seen:
                continue
            if (words := words_of(node)) is not None:
                seen.update(id(inner) for inner in ast.walk(node))
                yield str(path.relative_to(PACKAGE)), node.lineno, words, node


def test_every_text_names_commands_flags_and_keys_that_there_are():
    wrong = [
        f"{path}:{line}: {problem}: {words!r}"
        for path, line, words, _ in texts()
        # Options of a layer or of a compiler, what pip and what Slurm take, and variables of CSS are not ours.
        if not path.startswith(("plugin_template", "study/engines/slurm", "report/pictures/palette"))
        for problem in problems(words)
    ]
    assert wrong == []


def test_a_value_in_a_command_is_quoted_for_a_shell():
    """``--run {path}`` breaks at the first space of a folder's name; ``shell_line`` quotes it."""
    wrong = []
    for path, line, words, node in texts():
        if not isinstance(node, ast.JoinedStr) or not re.search(r"rushkit [a-z]|--[a-z]", words):
            continue
        before = ""
        for value in node.values:
            if isinstance(value, ast.FormattedValue) and _TAKES_A_WORD.search(before):
                code = ast.unparse(value.value)
                if code not in _NAMES and not code.startswith(_CALLS):
                    wrong.append(f"{path}:{line}: {code}")
            before += words_of(value) or HOLE
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("go on with: rushkit evalaute --from RUN", "there is no command rushkit evalaute"),
        ("`rushkit runs lst` shows them", "there is no command rushkit runs lst"),
        ("make one: rushkit finetune --from RUN --nope", "rushkit finetune has no --nope"),
        ("give it with --no-such-flag", "no command has --no-such-flag"),
        ("--set pretrain.epoch=3", "there is no key pretrain.epoch"),
        ("see what rushkit reads of it", None),
        ("`rushkit runs list` shows them; --set pretrain.epochs=3, or rushkit evaluate --from RUN", None),
    ],
)
def test_a_wrong_name_is_found(text, problem):
    found = problems(text)
    assert (problem in found) if problem else found == []


def test_a_hint_that_repeats_the_mistake_is_found():
    mistake = ("evaluate", "--from", "my run", "--limit", "x")
    assert repeats("try: rushkit evaluate --from 'my run' --limit x", mistake)
    assert not repeats("try: rushkit evaluate --from 'my run' --limit 10", mistake)
