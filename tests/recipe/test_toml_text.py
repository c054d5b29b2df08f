from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushkit.recipe import toml


def test_line_numbers_of_plain_keys_and_tables():
    text = '# about\nschema = 1\n\n[data]  # the images\nname = "digits"\n\n[pretrain.optimizer]\nlr = 0.5\n'
    assert toml.line_numbers(text) == {
        "schema": 2,
        "data": 4,
        "data.name": 5,
        "pretrain.optimizer": 7,
        "pretrain.optimizer.lr": 8,
    }


def test_line_numbers_of_statements_over_several_lines():
    text = "a = [\n  1, # one\n  2,\n]\nb = \"\"\"\n[not.a.table]\nc = 3\n\"\"\"\nd = '''\nx'''\ne = { f = 1 }\n"
    assert toml.line_numbers(text) == {"a": 1, "b": 5, "d": 9, "e.f": 11, "e": 11}


def test_line_numbers_of_dotted_and_quoted_keys():
    text = 'a.b = 1\na.c.d = 2\n["x y"]\n"z" = 3\n'
    assert toml.line_numbers(text) == {"a.b": 1, "a": 1, "a.c.d": 2, "a.c": 2, "x y": 3, "x y.z": 4}


def test_line_numbers_of_arrays_of_tables_and_of_tables_in_them():
    text = (
        "[[attack]]\ntype = 1\n[attack.options]\nx = 1\n\n[[attack]]\ntype = 2\n"
        "[attack.options]\nx = 2\n[[attack.deep]]\ny = 1\n[[attack.deep]]\ny = 2\n[attack.deep.er]\nz = 1\n"
        "[[attack]]\n[[attack.deep]]\ny = 3\n[other]\nw = 1\n"
    )
    lines = toml.line_numbers(text)
    assert lines == {
        "attack.0": 1,
        "attack.0.type": 2,
        "attack.0.options": 3,
        "attack.0.options.x": 4,
        "attack.1": 6,
        "attack.1.type": 7,
        "attack.1.options": 8,
        "attack.1.options.x": 9,
        "attack.1.deep.0": 10,
        "attack.1.deep.0.y": 11,
        "attack.1.deep.1": 12,
        "attack.1.deep.1.y": 13,
        "attack.1.deep.1.er": 14,
        "attack.1.deep.1.er.z": 15,
        "attack.2": 16,
        "attack.2.deep.0": 17,
        "attack.2.deep.0.y": 18,
        "other": 19,
        "other.w": 20,
    }


def test_line_numbers_of_an_inline_array_of_tables():
    assert toml.line_numbers("attack = [\n  {eps = 1},\n  {eps = 2},\n]\n") == {
        "attack.0.eps": 1,
        "attack.0": 1,
        "attack": 1,
        "attack.1.eps": 1,
        "attack.1": 1,
    }


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\u2029"])
def test_only_what_toml_calls_a_line_end_counts(end, odd):
    text = end.join([f'a = "x{odd}y"', "b = [1,", "2]", "c = 3", ""])
    assert toml.line_numbers(text) == {"a": 1, "b": 2, "c": 4}


def tables_of(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=4)


values = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(st.characters(codec="utf-8")),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), tables_of(inner)),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(tables_of(values))
def test_whatever_is_written_reads_back_the_same(table):
    text = toml.dumps(table)
    assert tomllib.loads(text) == table


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from("abcd"), values, max_size=4))
def test_every_key_of_a_written_table_has_a_line_and_it_names_the_key(table):
    text = toml.dumps(table)
    lines = toml.line_numbers(text)
    for key in table:
        head = [number for path, number in lines.items() if path == key or path.startswith(f"{key}.")]
        assert head, key
        assert key in text.split("\n")[min(head) - 1]


def test_none_is_left_out():
    assert toml.dumps({"a": None, "b": {"c": None}}) == "[b]\n"


@pytest.mark.parametrize(
    "value, text",
    [
        (True, "true"),
        (1, "1"),
        (0.1, "0.1"),
        (1e-5, "1e-05"),
        ('a"\\\n\x7f', '"a\\"\\\\\\n\\u007f"'),
        ([1, [2.5, "x"]], '[1, [2.5, "x"]]'),
        ((1, 2), "[1, 2]"),
    ],
)
def test_values_are_written_as_toml_writes_them(value, text):
    assert toml.format_value(value) == text
    expected = list(value) if isinstance(value, tuple) else value
    assert tomllib.loads(f"a = {text}")["a"] == expected


def test_flatten():
    table = {"a": {"b": 1, "c": {}}, "d": [{"e": 1}, {"e": 2}], "f": [1, 2], "g": []}
    assert toml.flatten(table) == {"a.b": 1, "a.c": {}, "d.0.e": 1, "d.1.e": 2, "f": [1, 2], "g": []}
