"""Whose names fit which places: what is seen through, what the user must say, and what an error lists."""

from __future__ import annotations

import pytest
import torch

from rushkit.errors import CheckpointError, UsageError
from rushkit.exchange.foreign_names import fit_names
from rushkit.exchange.rules import Rules, read_rules, renamed_key

FEATURES = 4
ENCODER = {
    "conv1.weight": torch.zeros(2, 3, 3, 3),
    "bn1.weight": torch.zeros(2),
    "bn1.num_batches_tracked": torch.tensor(0),
    "layer1.0.downsample.0.weight": torch.zeros(4, 2, 1, 1),
}


def tensors(**more):
    """The encoder's own with values of their own, and a head for 3 classes called fc."""
    own = {name: torch.full_like(place, number + 1) for number, (name, place) in enumerate(ENCODER.items())}
    return own | {"fc.weight": torch.ones(3, FEATURES), "fc.bias": torch.arange(3.0)} | more


def prefixed(prefix, names=None):
    return {f"{prefix}{name}" if names is None or name in names else name: value for name, value in tensors().items()}


def fit(given, encoder_only=False, **rules):
    return fit_names(given, ENCODER, FEATURES, Rules(**rules), encoder_only)


def assert_all_found(found):
    assert list(found.encoder) == list(ENCODER)
    own = tensors()
    assert all(torch.equal(found.encoder[name], own[name]) for name in ENCODER)
    assert torch.equal(found.head["weight"], own["fc.weight"])
    assert torch.equal(found.head["bias"], own["fc.bias"])


def test_the_same_names_need_no_word_but_the_heads():
    found = fit(tensors())
    assert_all_found(found)
    assert found.notes == ("the head is 'fc': 3 classes",)
    assert (found.mean, found.std, found.ignored) == ((), (), ())


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "_orig_mod.module.", "1.module.", "encoder."])
def test_wrappers_around_everything_are_taken_off_and_said(prefix):
    found = fit(prefixed(prefix))
    assert_all_found(found)
    said = next(note for note in found.notes if "is taken off" in note)
    assert said.startswith(f"the prefix {prefix.split('.')[0]!r}")


def test_a_place_in_a_sequential_tells_of_what_stands_before_it():
    assert any("--mean and --std" in note for note in fit(prefixed("1.")).notes)


@pytest.mark.parametrize("prefix", ["encoder.", "backbone.", "module.encoder."])
def test_a_wrapper_around_all_but_the_head(prefix):
    assert_all_found(fit(prefixed(prefix, set(ENCODER))))


@pytest.mark.parametrize("head", ["linear", "classifier", "head.fc", "classifier.6"])
def test_the_head_is_known_by_its_shape(head):
    named = {name.replace("fc.", f"{head}."): value for name, value in tensors().items()}
    assert_all_found(fit(named))


def test_a_head_without_bias_and_one_that_is_a_convolution():
    named = tensors()
    del named["fc.bias"]
    named["fc.weight"] = named["fc.weight"][..., None, None]
    found = fit(named)
    assert torch.equal(found.head["weight"], torch.ones(3, FEATURES))
    assert torch.equal(found.head["bias"], torch.zeros(3))


def test_shortcut_is_downsample():
    named = {name.replace("downsample", "shortcut"): value for name, value in tensors().items()}
    found = fit(named)
    assert_all_found(found)
    assert "the names are those of the CIFAR ResNets with 'shortcut'" in found.notes


def test_counters_that_old_files_lack_start_at_zero():
    named = tensors()
    del named["bn1.num_batches_tracked"]
    found = fit(named)
    assert found.encoder["bn1.num_batches_tracked"] == 0
    assert any("counters" in note for note in found.notes)


@pytest.mark.parametrize(("mean", "std"), [("means", "sds"), ("mean", "std"), ("mu", "sigma")])
def test_the_figures_of_a_normalisation_layer(mean, std):
    layer = {f"0.{mean}": torch.tensor([0.1, 0.2, 0.3]), f"0.{std}": torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)}
    found = fit(layer | prefixed("1.module."))
    assert_all_found(found)
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert not any("--mean" in note for note in found.notes)


def test_of_two_normalisation_layers_neither_is_chosen():
    layers = {f"{place}.{name}": torch.ones(3) for place in ("before", "behind") for name in ("mean", "std")}
    with pytest.raises(CheckpointError, match=r"without a place \(4 of 10\)"):
        fit(tensors() | layers)


class TestRules:
    @pytest.mark.parametrize(
        ("name", "old", "new", "expected"),
        [
            ("a.b.c", "a.b", "x", "x.c"),
            ("a.b.c", "a.b.c", "x.y", "x.y"),
            ("a.b.c", "a", "", "b.c"),
            ("ab.c", "a", "x", "ab.c"),
            ("b.a.c", "a", "x", "b.a.c"),
            ("b.a.c", "*.a", "*.x", "b.x.c"),
            ("a.c", "*.a", "*.x", "x.c"),
            ("b.ab.a", "*.a", "*.x", "b.ab.x"),
            ("b.a.c", "*.a", "", "b.c"),
            ("b.a.c", "*.a", r"*.\1", r"b.\1.c"),
        ],
    )
    def test_a_name_under_one_rule(self, name, old, new, expected):
        assert renamed_key(name, old, new).replace("..", ".") == expected

    def test_renames_and_ignores_are_said(self):
        named = prefixed("tronco.") | {"queue.0": torch.zeros(2), "queue.1": torch.zeros(2)}
        found = fit(named, rename={"tronco": ""}, ignore=["queue*"])
        assert_all_found(found)
        assert found.ignored == ("queue.0", "queue.1")
        assert "6 names have 'tronco' changed to ''" in found.notes

    def test_what_is_ignored_may_uncover_a_wrapper(self):
        named = prefixed("backbone.") | {"projector.0.weight": torch.zeros(9, 9)}
        assert_all_found(fit(named, ignore=["projector*"]))

    @pytest.mark.parametrize("rules", [{"rename": {"trunc": "x"}}, {"ignore": ["queu.*"]}])
    def test_a_rule_that_matches_nothing_names_the_nearest(self, rules):
        named = tensors(**{"queue.0": torch.zeros(2), "trunk.a": torch.zeros(2)})
        with pytest.raises(UsageError) as caught:
            fit(named, **rules)
        assert "did you mean" in caught.value.hint

    def test_a_rename_onto_another_name(self):
        with pytest.raises(UsageError, match="two tensors"):
            fit(tensors(), rename={"bn1.weight": "conv1.weight"})

    def test_from_a_file_and_the_command_line(self, tmp_path):
        path = tmp_path / "keys.toml"
        path.write_text('ignore = ["queue*"]\n[rename]\n"a.b" = "c"\nd.e = "f"\n')
        rules = read_rules(path, ["a.b=g", "h="], ["i"])
        assert rules == Rules({"a.b": "g", "d.e": "f", "h": ""}, ("queue*", "i"))
        assert read_rules(None) == Rules({}, ())

    @pytest.mark.parametrize(
        "text", ["nonsense", "rename = 3", "[rename]\na = 1", "ignore = 'x'", "[renames]\na = 'b'"]
    )
    def test_a_file_that_says_something_else(self, tmp_path, text):
        path = tmp_path / "keys.toml"
        path.write_text(text)
        with pytest.raises(UsageError, match=r"keys\.toml"):
            read_rules(path)

    def test_a_rule_that_is_none(self, tmp_path):
        for rule in ("a", "=b"):
            with pytest.raises(UsageError, match="OLD=NEW"):
                read_rules(None, [rule])
        with pytest.raises(UsageError, match="cannot be read"):
            read_rules(tmp_path / "nowhere.toml")


class TestMisfits:
    def test_every_kind_is_listed_with_near_names_and_what_mends_it(self):
        named = tensors(conv1=torch.zeros(1))
        named["bn2.weight"] = named.pop("bn1.weight")
        named["layer1.0.downsample.0.weight"] = torch.zeros(4, 2, 3, 3)
        with pytest.raises(CheckpointError) as caught:
            fit(named)
        text = str(caught.value)
        assert "missing (1 of 4): bn1.weight (near: bn2.weight)" in text
        assert "without a place (2 of 7): conv1" in text
        assert "layer1.0.downsample.0.weight is 4x2x3x3, its place 4x2x1x1" in text
        assert "--rename bn2=bn1" in text

    def test_the_suggested_rename_mends_a_prefix(self):
        with pytest.raises(CheckpointError, match="--rename tronco=,") as caught:
            fit(prefixed("tronco."))
        assert "missing (4 of 4)" in str(caught.value)
        assert_all_found(fit(prefixed("tronco."), rename={"tronco": ""}))

    def test_one_tensor_that_is_missing_is_enough(self):
        named = tensors()
        del named["conv1.weight"]
        with pytest.raises(CheckpointError, match=r"missing \(1 of 4\): conv1\.weight"):
            fit(named)

    def test_tensors_without_a_place_are_never_left_out_silently(self):
        with pytest.raises(CheckpointError, match="--ignore 'projector"):
            fit(tensors(**{"projector.weight": torch.zeros(9, 9)}))

    def test_no_head_and_two_heads(self):
        named = {name: value for name, value in tensors().items() if name in ENCODER}
        with pytest.raises(CheckpointError, match="no one linear layer on 4 features") as caught:
            fit(named)
        assert "--encoder-only" in caught.value.hint
        with pytest.raises(CheckpointError, match="without a place"):
            fit(tensors(**{"other.weight": torch.zeros(3, FEATURES), "other.bias": torch.zeros(3)}))

    def test_a_wrapper_is_not_taken_off_onto_a_tensor_that_is_there(self):
        with pytest.raises(CheckpointError, match="without a place"):
            fit(prefixed("module.") | {"fc.weight": torch.zeros(3, FEATURES), "fc.bias": torch.zeros(3)})

    def test_a_bias_that_is_not_that_of_the_layer_makes_no_head(self):
        with pytest.raises(CheckpointError, match=r"without a place \(2 of 6\): fc\.weight, fc\.bias"):
            fit(tensors(**{"fc.bias": torch.zeros(2)}))

    def test_the_encoder_alone_has_no_head_and_says_so(self):
        found = fit(tensors(), encoder_only=True)
        assert found.head == {}
        assert "the head 'fc' is left out" in found.notes
        assert fit({name: value for name, value in tensors().items() if name in ENCODER}, encoder_only=True).head == {}

    def test_an_integer_where_a_weight_belongs(self):
        with pytest.raises(CheckpointError, match=r"bn1\.weight"):
            fit(tensors(**{"bn1.weight": torch.ones(2, dtype=torch.int64)}))


def test_a_name_of_a_hundred_thousand_wrappers_is_refused_in_a_few_words():
    with pytest.raises(CheckpointError, match="without a place") as raised:
        fit({"model." * 100_000 + "w": torch.zeros(2)})
    assert len(str(raised.value)) < 5000
