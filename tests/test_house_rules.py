"""The bounds that keep the package readable: short functions, few parameters, records, and markup in templates."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rushkit"
MAX_CODE_LINES = 60
MAX_PARAMETERS = 8
MAX_UNTYPED = 60
MAX_HASATTR = 5
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> dict[str, str]:
    return {str(file.relative_to(PACKAGE)): file.read_text(encoding="utf-8") for file in sorted(PACKAGE.rglob("*.py"))}


def functions(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def code_lines(source: str, function: Function) -> int:
    """Lines of a function that hold code: no blank lines, no comments, not its docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    lines &= set(range(function.lineno, (function.end_lineno or 0) + 1))
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        lines -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return len(lines)


def parameters(function: Function) -> int:
    """The number of a function's parameters, without self or cls."""
    given = function.args
    named = [*given.posonlyargs, *given.args]
    method = bool(named) and named[0].arg in ("self", "cls")
    return len(named) + len(given.kwonlyargs) + bool(given.vararg) + bool(given.kwarg) - method


def test_no_function_is_too_long_to_read():
    long = [
        f"{name}:{function.lineno} {function.name}: {lines}"
        for name, source in sources().items()
        for function in functions(source)
        if (function.end_lineno or 0) - function.lineno >= MAX_CODE_LINES
        and (lines := code_lines(source, function)) > MAX_CODE_LINES
    ]
    assert long == []


def test_no_function_has_too_many_parameters():
    wide = [
        f"{name}:{function.lineno} {function.name}: {parameters(function)}"
        for name, source in sources().items()
        for function in functions(source)
        if parameters(function) > MAX_PARAMETERS
    ]
    assert wide == []


def test_code_lines_and_parameters_are_counted():
    source = '''class A:
    def f(self, a, *, b, **c):
        """Two
        lines."""

        # why
        return (
            a
        )
'''
    (function,) = functions(source)
    assert (code_lines(source, function), parameters(function)) == (4, 3)


@pytest.mark.parametrize(
    ("pattern", "most"), [(r"dict\[str, Any\]|Mapping\[str, Any\]", MAX_UNTYPED), (r"hasattr\(", MAX_HASATTR)]
)
def test_what_passes_between_functions_has_a_type(pattern, most):
    places = {name: len(re.findall(pattern, source)) for name, source in sources().items()}
    assert sum(places.values()) <= most, {name: count for name, count in places.items() if count}


def test_markup_stands_in_templates():
    assert [name for name, source in sources().items() if re.search("<t[dr]|<div", source)] == []


def test_test_modules_have_names_of_their_own():
    """Pytest imports them by their names alone, and collects only one of two."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
