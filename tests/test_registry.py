from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import entrypoints
import pytest

from rushkit import objectives, registries
from rushkit.errors import PluginError, RushkitError, UsageError
from rushkit.objectives.pgd_at import PgdAt
from rushkit.registry import Registry, describe_options, option_problems

GROUP = "rushkit.tests"


class Thing:
    def __init__(self, scale: float, copies: int = 1, kind: Literal["round", "square"] = "round") -> None:
        self.scale, self.copies, self.kind = scale, copies, kind


def many(
    number: float = 0.0,
    whole: int = 0,
    word: str = "",
    flag: bool = False,
    maybe: float | None = None,
    numbers: list[float] = (),  # type: ignore[assignment]
    pair: tuple[int, int] = (0, 0),
    any_length: tuple[int, ...] = (),
    choice: Literal["a", 1] = "a",
    free=None,
) -> None: ...


@pytest.fixture
def registry(monkeypatch) -> Registry:
    monkeypatch.setenv("RUSHKIT_PLUGINS", "")
    made = Registry("thing", GROUP, {"square": "tests_no_such_module:square"}, {"cauchy": "rushkit-cauchy"})
    made.register("thing")(Thing)
    return made


def install(site: Path, distribution: str, points: dict[str, str], version: str = "1.0", group: str = GROUP) -> None:
    """What pip leaves of an installed distribution."""
    folder = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    lines = "\n".join(f"{name} = {target}" for name, target in points.items())
    (folder / "entry_points.txt").write_text(f"[{group}]\n{lines}\n")


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """A folder on the path that distributions can be installed into."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delenv("RUSHKIT_PLUGINS", raising=False)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


def test_a_decorated_factory_is_found_and_stays_what_it_was(registry):
    @registry.register("other")
    def other(size: int = 2) -> int:
        return size

    assert other(3) == 3
    assert registry.get("other") is other
    assert registry.create("other", size=4) == 4
    assert "other" in registry
    assert registry.names() == ["other", "square", "thing"]


def test_create_calls_the_factory_with_the_options(registry):
    made = registry.create("thing", scale=2, copies=3)
    assert (made.scale, made.copies, made.kind) == (2, 3, "round")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"scale": 1.0, "copis": 2}, ["copis", "did you mean copies?"]),
        ({"scale": 1.0, "zzz": 2}, ["unknown option 'zzz'"]),
        ({}, ["'scale' is missing"]),
        ({"scale": "big"}, ["scale must be a number (got 'big')"]),
        ({"scale": 1.0, "copies": 1.5}, ["copies must be a whole number (got 1.5)"]),
        ({"scale": 1.0, "kind": "oval"}, ["kind must be one of 'round', 'square' (got 'oval')"]),
        ({"copis": 2, "kind": 3}, ["copis", "kind must be", "'scale' is missing"]),
    ],
)
def test_bad_options_are_all_named_with_the_nearest_right_one(registry, options, words):
    with pytest.raises(UsageError) as raised:
        registry.create("thing", **options)
    assert raised.value.message.startswith("thing 'thing': ")
    for word in words:
        assert word in raised.value.message
    assert raised.value.hint == "its options: scale, copies=1, kind='round'"


@pytest.mark.parametrize(
    "option, good, bad",
    [
        ("number", [1.5, 1, -2], ["1", True, None, [1.0]]),
        ("whole", [3, -3], [3.0, "3", False]),
        ("word", ["", "x"], [1, None, ["x"]]),
        ("flag", [True, False], [0, 1, "true"]),
        ("maybe", [None, 1.5, 2], ["1", True]),
        ("numbers", [[], [1, 2.5], (1.0,)], [1.0, ["a"], [True], "12"]),
        ("pair", [[1, 2], (1, 2)], [[1], [1, 2, 3], [1, 2.5]]),
        ("any_length", [[], [1, 2, 3]], [[1.5], 1]),
        ("choice", ["a", 1], ["b", True, 1.0, 2, ["a"]]),
        ("free", [None, object(), "x"], []),
    ],
)
def test_options_fit_their_annotations_or_do_not(option, good, bad):
    for value in good:
        assert option_problems(many, {option: value}) == [], value
    for value in bad:
        (problem,) = option_problems(many, {option: value})
        assert (problem.option, problem.kind) == (option, "value")
        assert f"(got {value!r})" in str(problem)


def test_options_that_rushkit_supplies_are_neither_asked_for_nor_allowed():
    assert option_problems(Thing, {}, supplied=("scale",)) == []
    assert option_problems(Thing, {"scale": 1.0}, supplied=("scale",))[0].option == "scale"
    assert describe_options(Thing, supplied=("scale",)) == "copies=1, kind='round'"


def test_annotations_that_only_a_type_checker_knows_go_unchecked():
    def factory(size: UnknownName = 1) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert option_problems(factory, {"size": "anything"}) == []
    (problem,) = option_problems(factory, {"sise": 1})
    assert str(problem) == "unknown option 'sise'; did you mean size?"


def test_keyword_arguments_take_what_they_like():
    def factory(size: int = 1, **more: object) -> None: ...

    assert option_problems(factory, {"anything": "x"}) == []
    assert option_problems(factory, {"size": "x"}) != []


def test_an_unknown_name_says_what_is_near(registry):
    with pytest.raises(UsageError, match="unknown thing 'thng'") as raised:
        registry.get("thng")
    assert raised.value.hint == "did you mean thing?"


def test_an_unknown_name_without_neighbours_lists_all(registry):
    with pytest.raises(UsageError) as raised:
        registry.get("qqqqq")
    assert raised.value.hint == "there are: square, thing"


def test_a_known_plugin_is_named_for_installation(registry):
    with pytest.raises(UsageError, match="unknown thing 'cauchy'") as raised:
        registry.create("cauchy")
    assert raised.value.hint is not None
    assert "pip install rushkit-cauchy" in raised.value.hint


def test_listing_imports_nothing(site):
    (site / "explosive.py").write_text("raise RuntimeError('imported')")
    install(site, "rushkit-explosive", {"boom": "explosive:boom"}, "2.3")
    registry = Registry("thing", GROUP, {"own": "tests_no_such_module:x"})
    assert registry.names() == ["boom", "own"]
    assert [(entry.name, entry.owner, entry.version) for entry in registry.entries()] == [
        ("boom", "rushkit-explosive", "2.3"),
        ("own", "rushkit", ""),
    ]
    assert "boom" in repr(registry)
    assert "explosive" not in sys.modules


def test_the_same_owner_may_register_a_name_again(registry):
    class Again(Thing):
        pass

    registry.register("thing")(Again)
    assert registry.get("thing") is Again
    assert registry.names().count("thing") == 1


def test_two_owners_of_a_name_are_an_error_at_use_and_a_qualified_name_chooses(site):
    for name in ("one", "two"):
        (site / f"plugin_{name}.py").write_text(f"def make(): return {name!r}\n")
        install(site, f"rushkit-{name}", {"same": f"plugin_{name}:make", f"only-{name}": f"plugin_{name}:make"})
    registry = Registry("thing", GROUP)
    assert registry.names() == ["only-one", "only-two", "same"]
    assert "same" in registry
    with pytest.raises(UsageError, match="more than one owner") as raised:
        registry.get("same")
    assert raised.value.hint == "choose one of: rushkit-one/same, rushkit-two/same"
    assert registry.create("rushkit-two/same") == "two"
    assert registry.create("only-one") == "one"


def test_a_plugin_never_replaces_a_builtin_silently(site):
    (site / "usurper.py").write_text("def make(): return 'usurper'\n")
    install(site, "usurper", {"square": "usurper:make"})
    registry = Registry("thing", GROUP, {"square": "fractions:Fraction"})
    with pytest.raises(UsageError) as raised:
        registry.get("square")
    assert raised.value.hint == "choose one of: rushkit/square, usurper/square"
    assert registry.create("rushkit/square", numerator=3) == 3


def test_a_plugin_that_also_registers_by_hand_is_one_owner(site):
    (site / "rushkit_twice.py").write_text(
        "import tests_twice_registry\n@tests_twice_registry.registry.register('twice')\ndef make(): return 2\n"
    )
    (site / "tests_twice_registry.py").write_text(
        f"from rushkit.registry import Registry\nregistry = Registry('thing', {GROUP!r})\n"
    )
    install(site, "rushkit-twice", {"twice": "rushkit_twice:make"})
    import tests_twice_registry  # type: ignore[import-not-found]

    for _ in range(2):
        assert tests_twice_registry.registry.create("twice") == 2


def test_a_family_hands_the_rest_of_the_name_to_its_factory(site):
    (site / "zoo.py").write_text("def make(name, size=1): return name, size\n")
    install(site, "my-zoo", {"zoo/*": "zoo:make"})
    registry = Registry("thing", GROUP)
    assert registry.names() == ["zoo/*"]
    assert registry.create("zoo/a/b", size=2) == ("a/b", 2)
    assert registry.create("zoo/zoo/x") == ("zoo/x", 1)
    assert registry.create("my-zoo/zoo/x") == ("x", 1)
    assert "zoo/" not in registry
    with pytest.raises(UsageError, match="unknown option 'sise'"):
        registry.create("zoo/a", sise=2)


def test_two_families_of_one_name_are_told_apart_by_the_owner(site):
    (site / "zoo.py").write_text("def make(name): return 'mine', name\n")
    install(site, "zoo/".strip("/") + "keeper", {"zoo/*": "zoo:make"})
    registry = Registry("thing", GROUP, {"zoo/*": "fractions:Fraction"})
    with pytest.raises(UsageError, match="more than one owner") as raised:
        registry.get("zoo/1")
    assert raised.value.hint == "choose one of: rushkit/zoo/1, zookeeper/zoo/1"
    assert registry.create("rushkit/zoo/1") == 1
    assert registry.create("zookeeper/zoo/1") == ("mine", "1")


def test_an_exact_name_goes_before_a_family():
    registry = Registry("thing", GROUP, {"zoo/*": "fractions:Fraction", "zoo/lion": "builtins:dict"})
    assert registry.get("zoo/lion") is dict


@pytest.mark.parametrize(
    "source, target, cause",
    [
        ("import not_installed_anywhere", "broken:make", "ModuleNotFoundError"),
        ("import sys; sys.exit(0)", "broken:make", "SystemExit"),
        ("raise ValueError('no licence')", "broken:make", "no licence"),
        ("make = 1", "broken:mke", "AttributeError"),
        ("def make(:", "broken:make", "SyntaxError"),
        ("", "not_a_module:make", "ModuleNotFoundError"),
    ],
)
def test_a_broken_plugin_breaks_only_its_own_names(site, source, target, cause):
    (site / "broken.py").write_text(source)
    install(site, "rushkit-broken", {"broken": target})
    registry = Registry("thing", GROUP, {"whole": "fractions:Fraction"})
    assert registry.names() == ["broken", "whole"]
    assert registry.create("whole") == 0
    with pytest.raises(PluginError) as raised:
        registry.create("broken")
    assert raised.value.exit_code == 3
    assert "'broken' of rushkit-broken" in raised.value.message
    assert cause in raised.value.message


@pytest.mark.parametrize("raised_by_plugin", ["RuntimeError('no')", "SystemExit(0)"])
def test_a_plugin_whose_factory_raises_is_named(site, raised_by_plugin):
    (site / "raising.py").write_text(f"def make(): raise {raised_by_plugin}\n")
    install(site, "rushkit-raising", {"raising": "raising:make"})
    with pytest.raises(PluginError, match="'raising' of rushkit-raising"):
        Registry("thing", GROUP).create("raising")


def test_an_error_that_a_plugin_words_itself_is_passed_on(site):
    (site / "wording.py").write_text(
        "from rushkit.errors import UsageError\ndef make(size: int): raise UsageError('size is odd', 'take 2')\n"
    )
    install(site, "rushkit-wording", {"wording": "wording:make"})
    with pytest.raises(UsageError, match="size is odd"):
        Registry("thing", GROUP).create("wording", size=1)


def test_a_distribution_without_metadata_is_passed_over(site):
    install(site, "rushkit-torn", {"torn": "torn:make"})
    (site / "rushkit_torn-1.0.dist-info" / "METADATA").unlink()
    registry = Registry("thing", GROUP, {"whole": "fractions:Fraction"})
    assert registry.create("whole") == 0
    assert registry.names() == ["whole"]


@pytest.mark.parametrize(
    "value, expected",
    [("", []), (" ", []), ("a-plugin", ["a"]), ("A_Plugin", ["a"]), ("a-plugin,b.plugin", ["a", "b"]), ("c", [])],
)
def test_the_environment_chooses_the_plugins(site, monkeypatch, value, expected):
    install(site, "a-plugin", {"a": "x:y"})
    install(site, "b.plugin", {"b": "x:y"})
    monkeypatch.setenv("RUSHKIT_PLUGINS", value)
    assert Registry("thing", GROUP).names() == expected


def test_without_the_variable_every_plugin_is_there(site):
    install(site, "a-plugin", {"a": "x:y"})
    install(site, "b.plugin", {"b": "x:y"})
    assert Registry("thing", GROUP).names() == ["a", "b"]


def test_the_entrypoints_package_sees_the_same_plugins(site):
    install(site, "a-plugin", {"a": "some.module:make", "family/*": "some.module:family"})
    install(site, "b-plugin", {"b": "other.module:Class.method"}, "0.3rc1")
    ours = {
        (entry.name, entry.target, entry.owner, entry.version)
        for registry in (Registry("thing", GROUP), *registries.ALL)
        for entry in registry.entries()
        if entry.owner != "rushkit"
    }
    theirs = {
        (point.name, f"{point.module_name}:{point.object_name}", point.distro.name, point.distro.version)
        for registry in (Registry("thing", GROUP), *registries.ALL)
        for point in entrypoints.get_group_all(registry.group)
    }
    # The old package reads the distribution's name from the folder, where a dash is an underscore.
    assert {(*one[:2], one[2].replace("-", "_"), one[3]) for one in ours} == theirs
    assert len(ours) >= 3


def test_a_name_can_be_forgotten(registry):
    registry.unregister("thing", "nobody")
    assert "thing" in registry
    registry.unregister("thing", Thing.__module__.partition(".")[0])
    assert "thing" not in registry


@pytest.mark.parametrize("registry", registries.ALL, ids=lambda registry: registry.kind)
def test_every_builtin_loads_and_its_options_can_be_described(registry):
    for entry in registry.entries():
        if entry.owner == "rushkit":
            describe_options(entry.load())


def test_importing_the_registries_imports_no_component():
    code = "import sys, rushkit.registries as r; [x.entries() for x in r.ALL]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_plugin_error_is_a_rushkit_error():
    assert issubclass(PluginError, RushkitError)


def test_an_error_of_a_factory_without_a_hint_tells_its_options():
    registry = Registry("noise", "rushkit.tests")

    @registry.register("strict")
    def strict(scale: float = 0.3) -> object:
        raise UsageError(f"scale must be at least 1 (got {scale})", "use 1" if scale == 0.5 else None)

    with pytest.raises(UsageError) as raised:
        registry.create("strict")
    assert raised.value.hint == "its options: scale=0.3"
    with pytest.raises(UsageError) as raised:
        registry.create("strict", scale=0.5)
    assert raised.value.hint == "use 1"


def test_an_option_that_a_dataclass_inherits_is_checked():
    # The names in the annotations are those of another module.
    problems = option_problems(PgdAt, {"norm": "l7", "steps": "many"})
    assert [problem.option for problem in problems] == ["norm", "steps"]


def test_a_number_may_be_a_ratio():
    made = objectives.create("pgd-at", eps="4/255", step_size="1/255")
    assert (made.eps, made.step_size) == (4 / 255, 1 / 255)


@pytest.mark.parametrize("text", ["4/0", "four", "1/nan", "inf/2", "0.5"])
def test_what_is_no_ratio_is_no_number(text):
    with pytest.raises(UsageError, match="eps must be a number"):
        objectives.create("pgd-at", eps=text)


def test_a_name_is_matched_without_case(registry, monkeypatch):
    assert registry.written("SQUARE") == "square"
    assert registry.entry("Thing").name == "thing"
    assert registry.written("cauchy") == "cauchy"
    # A name that is spelt like this comes first, and of two that differ in case neither is guessed.
    registry.register("THING")(Thing)
    assert registry.written("THING") == "THING"
    assert registry.written("tHING") == "tHING"


@pytest.mark.parametrize(
    "asked, name",
    [
        ("FGSM", "fgsm"),
        ("torchattacks/FGSM", "torchattacks/fgsm"),
        ("TorchAttacks/fgsm", "torchattacks/fgsm"),
        ("Rushkit/PGD", "rushkit/pgd"),
        ("nothing", "nothing"),
    ],
)
def test_members_of_families_and_owners_too(asked, name):
    assert registries.attacks.written(asked) == name


def test_the_family_of_a_member_that_nobody_lists_is_matched_without_case():
    assert registries.backbones.written("TIMM/vit_Tiny") == "timm/vit_Tiny"
