from __future__ import annotations

import re
import string

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rushkit.errors import RushkitError
from rushkit.recipe import toml
from rushkit.recipe.components import check_components
from rushkit.recipe.find import shipped_folder
from rushkit.recipe.load import load_recipe, read_recipe

NONE: dict[str, str] = {}
SHIPPED = sorted(path.stem for path in shipped_folder().glob("*.toml"))


def test_the_recipes_of_the_design_are_there():
    assert {"cifar10", "cifar100", "stl10", "stl10-unlabeled", "digits", "cifar10-cpu"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_fits_its_components(name):
    recipe = load_recipe(name, environment=NONE)
    assert recipe.name == name
    check_components(recipe)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_opens_with_what_it_is_its_command_its_cost_and_what_to_expect(name):
    text = (shipped_folder() / f"{name}.toml").read_text(encoding="utf-8")
    comment = list(re.match(r"(?:#.*\n)+", text)[0].splitlines())  # type: ignore[index]
    assert len(comment[0]) > 10
    for word in ("# Command:  rushkit ", "# Cost:     ", "# Expected: "):
        assert sum(line.startswith(word) and len(line) > len(word) for line in comment) == 1, word


@pytest.mark.parametrize("name", SHIPPED)
def test_a_resolved_recipe_reads_back_the_same(name):
    recipe = load_recipe(name, environment=NONE)
    again = read_recipe(toml.dumps(recipe.resolved()), "stored")
    assert again.resolved() == recipe.resolved()


TEXTS = [
    (shipped_folder() / f"{name}.toml").read_text(encoding="utf-8") for name in ("cifar10", "digits", "cifar10-cpu")
]
PIECES = st.one_of(
    st.text(st.sampled_from(string.printable), max_size=6),
    st.sampled_from(
        [
            "[",
            "]",
            "[[",
            "=",
            "{}",
            "nan",
            "-1",
            "1e999",
            '"""',
            "'",
            "\n[noise]\n",
            "\n[[attack]]\n",
            "extends",
            "type",
        ]
    ),
)


def explained(name: str, changes: list[str]) -> bool:
    """Whether a recipe reads back the same after it was stored, or an error of ours says what is wrong with it."""
    try:
        recipe = load_recipe(name, changes, NONE)
        check_components(recipe)
    except RushkitError as error:
        return bool(error.message)
    return read_recipe(toml.dumps(recipe.resolved()), "stored").resolved() == recipe.resolved()


@st.composite
def mutilated(draw) -> str:
    """A shipped recipe with a few pieces cut out, doubled, moved or overwritten."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 30)))
        text = text[:start] + draw(st.one_of(PIECES, st.just(text[start:stop] * 2))) + text[stop:]
    return text


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(mutilated())
@example('[data]\nname = ["digits"]\n')
@example('[data]\nname = "timm/*"\n[backbone]\nname = "timm/"\n')
def test_a_mutilated_recipe_loads_or_says_what_is_wrong(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "mutilated.toml"
    path.write_text(text, encoding="utf-8", newline="")
    assert explained(str(path), [])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.builds(
            "{}={}".format,
            st.lists(
                st.sampled_from(
                    ["data", "name", "attack", "0", "1", "eps", "noise", "pretrain", "optimizer", "samples"]
                ),
                max_size=4,
            ).map(".".join),
            st.one_of(
                st.sampled_from(["1", "{}", "[]", "[{}]", "x", "", "'8/255'", "true", "nan", "gaussian"]), PIECES
            ),
        ),
        max_size=4,
    )
)
def test_any_changes_load_or_say_what_is_wrong(changes):
    assert explained("digits", changes)
