"""Files of ACL, DynACL, AdvCL, RoCL, DeACL and solo-learn: which encoder is taken, and that it is the same network."""

from __future__ import annotations

import public_networks as public
import pytest
import torch
from public_networks import under
from torch.nn import functional as F

from rushkit.errors import CheckpointError, UsageError
from rushkit.exchange.foreign_names import fit_names
from rushkit.exchange.plan import import_recipe, plan_import
from rushkit.exchange.published import take_encoder, written_by
from rushkit.exchange.rules import Rules
from rushkit.foreign.file import read_foreign
from rushkit.setup import components, networks
from rushkit.system import generator

SIZE = 16


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """``plan(content, "backbone.stem=padded")``: what an import of a file with this content would write."""
    monkeypatch.chdir(tmp_path)

    def planned(content, *changes, rules=Rules(), encoder_only=True, branch=None, mean=(), std=()):  # noqa: B008
        torch.save(content, tmp_path / "weights.pt")
        changes = (f"data.image_size={SIZE}", "system.device=cpu", *changes)
        recipe = import_recipe("theirs", "digits", "resnet18", changes, mean, std)
        return plan_import(recipe, read_foreign(tmp_path / "weights.pt"), rules, encoder_only, branch)

    return planned


def images():
    return torch.rand(2, 3, SIZE, SIZE, generator=generator(1, "images"))


@torch.no_grad()
def output(made):
    """Logits of the images for a classifier, else their features."""
    if made.stage == "pretrain":
        encoder = networks.build_encoder(made.recipe, (3, SIZE)).eval()
        encoder.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in made.tensors.items()})
        return encoder(images())
    objective = components.build_objective(made.recipe, made.recipe.finetune)
    network = networks.build_network(made.recipe, objective, (3, SIZE), 10).eval()
    network.load_state_dict(made.tensors)
    return network(images())


def assert_same(made, expected):
    torch.testing.assert_close(output(made).double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def said(made):
    return "\n".join(made.origin.notes)


class TestBatchNormSets:
    @pytest.mark.parametrize(("branch", "number"), [(None, 1), ("clean", 0)])
    def test_acl_has_two_and_imagenets_normalisation(self, plan, branch, number):
        state = public.acl()
        made = plan({"epoch": 1000, "state_dict": state, "optim": {}}, branch=branch)
        assert_same(made, public.features(state, public.ACL, images(), number))
        taken, left = ("adversarial", "clean") if number else ("clean", "adversarial")
        assert made.origin.branch == taken
        assert f"the BatchNorm set of the {taken} branch is taken; left: {left}" in said(made)
        assert "left out (34 tensors): fc (a projector)" in said(made)
        assert (made.recipe.backbone.mean, made.recipe.backbone.std) == tuple(map(list, public.IMAGENET))

    def test_the_sets_of_one_network_differ(self):
        state = public.acl()
        clean, adversarial = (public.features(state, public.ACL, images(), number) for number in (0, 1))
        assert (clean - adversarial).abs().max() > 0.1 * clean.abs().max()

    def test_dynacl_has_two_encoders_of_which_the_momentum_encoder_is_taken(self, plan):
        state = public.dynacl()
        made = plan({"epoch": 1000, "state_dict": state})
        own = {name.removeprefix("encoder_k."): tensor for name, tensor in state.items() if "encoder_k" in name}
        assert_same(made, public.features(own, public.ACL, images(), 1))
        assert "'encoder_k' is taken, as DynACL's evaluation does" in said(made)
        assert made.origin.branch == "adversarial"
        assert made.recipe.backbone.mean == list(public.IMAGENET[0])

    def test_the_user_may_take_dynacls_other_encoder(self, plan):
        state = public.dynacl()
        made = plan({"state_dict": state}, rules=Rules({"encoder_q": ""}, ["encoder_k*"]))
        own = {name.removeprefix("encoder_q."): tensor for name, tensor in state.items() if "encoder_q" in name}
        assert_same(made, public.features(own, public.ACL, images(), 1))

    @pytest.mark.parametrize(("branch", "number"), [(None, 1), ("clean", 0), ("labels", 2)])
    def test_advcl_has_three_and_no_normalisation(self, plan, branch, number):
        state = public.advcl()
        made = plan({"model": state, "epoch": 1000, "rng_state": torch.zeros(4, dtype=torch.uint8)}, branch=branch)
        own = {name.removeprefix("module."): tensor for name, tensor in state.items()}
        assert_same(made, public.features(own, public.ADVCL, images(), number))
        assert made.origin.branch == (branch or "adversarial")
        for left in ("fc_010", "fc_500", "head_ce", "head_proj", "head_pred"):
            assert left in said(made)
        assert "takes pixels in [0, 1] as they are" in said(made)
        assert made.recipe.backbone.mean == []

    def test_no_pseudo_label_head_of_ten_is_taken_for_a_classifier(self, plan):
        with pytest.raises(CheckpointError, match="no one linear layer on 512 features") as caught:
            plan({"model": public.advcl()}, encoder_only=False)
        assert "--encoder-only" in caught.value.hint

    def test_a_classifier_with_two_sets_keeps_its_head(self, plan):
        head = public.linear(512, 10, 20)
        state = public.resnet18(public.ACL) | under("fc", head)
        made = plan({"state_dict": state}, encoder_only=False)
        expected = F.linear(
            public.features(state, public.ACL, images(), 1), head["weight"].double(), head["bias"].double()
        )
        assert_same(made, expected)

    def test_one_set_in_a_list_is_taken_as_what_it_is(self, plan):
        state = public.acl(sets=1)
        made = plan({"state_dict": state})
        assert_same(made, public.features(state, public.ACL, images(), 0))
        assert made.origin.branch == "clean"
        assert "the file has one BatchNorm set, that of the clean branch" in said(made)
        with pytest.raises(UsageError, match=r"--branch adversarial: the file has no such set .* \(it has: clean\)"):
            plan({"state_dict": state}, branch="adversarial")


class TestTwoEncoders:
    PLAIN = public.Naming()

    def encoder(self, seed):
        return public.resnet18(self.PLAIN, seed)

    def assert_taken(self, made, state):
        assert_same(made, public.features(state, self.PLAIN, images()))

    @pytest.mark.parametrize("momentum", [True, False])
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_of_moco_the_query_encoder_without_its_projector(self, plan, momentum, prefix):
        state = under("encoder_q", self.encoder(1) | under("fc", public.linear(512, 10, 20)))
        state |= under("encoder_k", self.encoder(2) | under("fc", public.linear(512, 10, 21))) if momentum else {}
        state |= {"queue": torch.zeros(10, 64), "queue_ptr": torch.zeros(1, dtype=torch.int64)}
        content = {"arch": "resnet18", "state_dict": {f"{prefix}{name}": tensor for name, tensor in state.items()}}
        made = plan(content)
        self.assert_taken(made, self.encoder(1))
        assert "'encoder_q' is taken, as MoCo's evaluation does" in said(made)
        assert "its projector, 2 tensors" in said(made)
        # Its last layer has as many outputs as the data has classes, and is no classifier all the same.
        with pytest.raises(CheckpointError, match="no one linear layer"):
            plan(content, encoder_only=False)

    def test_of_moco_v3_the_base_encoder(self, plan):
        head = under("fc.0", public.linear(512, 64, 22)) | under("fc.1", public.norm(64, 23))
        state = under("module.base_encoder", self.encoder(3) | head)
        state |= under("module.momentum_encoder", self.encoder(4) | head)
        state |= under("module.predictor.0", public.linear(64, 64, 24))
        made = plan({"state_dict": state})
        self.assert_taken(made, self.encoder(3))
        assert "left: 'momentum_encoder', 'predictor'" in said(made)

    @pytest.mark.parametrize("inside", [True, False])
    def test_of_dino_the_teacher(self, plan, inside):
        projector = under("head.mlp.0", public.linear(512, 64, 25)) | {
            "head.last_layer.weight_g": torch.ones(9, 1),
            "head.last_layer.weight_v": torch.ones(9, 64),
        }
        student, teacher = (under("backbone", self.encoder(seed)) | projector for seed in (5, 6))
        named = {"student": under("module", student), "teacher": teacher}
        content = named | {"epoch": 3} if inside else under("student", student) | under("teacher", teacher)
        made = plan(content)
        self.assert_taken(made, self.encoder(6))
        assert "head (a projector)" in said(made)
        assert ("the weights are taken from its 'teacher'" if inside else "'teacher' is taken") in said(made)

    @pytest.mark.parametrize("prefix", ["teacher", "trunk", "student", "encoder_q", "base_encoder", "teacher.backbone"])
    def test_one_encoder_under_any_of_their_names(self, plan, prefix):
        self.assert_taken(plan(under(prefix, self.encoder(7))), self.encoder(7))

    def test_two_encoders_of_no_known_code_are_not_chosen_between(self, plan):
        state = under("first", self.encoder(8)) | under("second", self.encoder(9))
        with pytest.raises(CheckpointError, match="without a place"):
            plan(state)


SMALL = {
    "conv1.weight": torch.zeros(2, 3, 3, 3),
    "bn1.weight": torch.zeros(2),
    "bn1.running_mean": torch.zeros(2),
    "bn1.num_batches_tracked": torch.tensor(0),
    "layer1.0.downsample.0.weight": torch.zeros(4, 2, 1, 1),
    "layer1.0.downsample.1.weight": torch.zeros(4),
    "layer1.0.downsample.1.running_mean": torch.zeros(4),
}


def small(sets, **more):
    """SMALL under ACL's names: the value of a tensor in a set is the number of the set."""
    state = {"conv1.weight": SMALL["conv1.weight"], "layer1.0.downsample.conv.weight": torch.zeros(4, 2, 1, 1)}
    for number in sets:
        value, place = float(number or 0), f"bn_list.{number}" if number else "bn_list"
        for layer, channels in (("bn1", 2), ("layer1.0.downsample.bn", 4)):
            state |= {f"{layer}.{place}.{part}": torch.full((channels,), value) for part in ("weight", "running_mean")}
        state[f"bn1.{place}.num_batches_tracked"] = torch.tensor(0)
    return state | more


def fit(state, branch=None, **rules):
    return fit_names(state, SMALL, 4, Rules(**rules), True, branch)


class TestWhatIsRefused:
    @pytest.mark.parametrize("sets", ["1", "02", "12", "0123", "013"])
    def test_sets_that_no_code_writes(self, sets):
        with pytest.raises(CheckpointError, match=f"these BatchNorm sets in its bn_list: {', '.join(sets)}"):
            fit(small(sets))

    @pytest.mark.parametrize("branch", [None, "clean"])
    def test_half_a_set(self, branch):
        state = small("01")
        del state["layer1.0.downsample.bn.bn_list.1.running_mean"]
        with pytest.raises(CheckpointError, match=r"set 1 \(adversarial\) lacks 1 of 4 .*downsample.bn.running_mean"):
            fit(state, branch)

    def test_a_layer_without_sets_among_layers_with_them(self):
        with pytest.raises(CheckpointError, match=r"some BatchNorm layers .* 'bn2\.running_mean' is of one without"):
            fit(small("01", **{"bn2.running_mean": torch.zeros(2)}))

    def test_one_tensor_in_a_set_and_outside(self):
        with pytest.raises(CheckpointError, match=r"'bn1\.weight' both in a BatchNorm set and outside"):
            fit(small("01", **{"bn1.weight": torch.zeros(2)}))

    def test_another_depth(self, plan):
        deeper = public.resnet18(public.ACL, blocks=3)
        with pytest.raises(CheckpointError, match=r"without a place \(.*layer1\.2\.conv1\.weight"):
            plan({"state_dict": deeper})

    def test_another_stem(self, plan):
        state = public.acl() | {"conv1.weight": torch.zeros(64, 3, 7, 7)}
        with pytest.raises(CheckpointError, match=r"conv1\.weight is 64x3x7x7, its place 64x3x3x3") as caught:
            plan({"state_dict": state})
        assert "backbone.stem=standard" in caught.value.hint

    @pytest.mark.parametrize("branch", ["adversarial", "clean", "labels"])
    def test_a_branch_of_a_file_without_branches(self, branch):
        with pytest.raises(UsageError, match=f"--branch {branch}: the file has one set") as caught:
            fit(SMALL, branch)
        assert "ACL, DynACL and AdvCL" in caught.value.hint

    @pytest.mark.parametrize(("sets", "has"), [("01", "adversarial, clean"), ("0", "clean"), ([""], "one without")])
    def test_a_branch_that_is_not_among_them(self, sets, has):
        with pytest.raises(UsageError, match=f"--branch labels: the file has no such set.*it has: {has}"):
            fit(small(sets), "labels")

    def test_names_are_cut_and_a_number_of_a_million_digits_is_one(self):
        state = small("01", **{f"bn9.bn_list.{'9' * 1_000_000}.weight": torch.zeros(2)})
        with pytest.raises(CheckpointError) as caught:
            fit(state)
        assert len(str(caught.value)) < 500


class TestNames:
    def test_a_few_of_thousands_of_parts_are_listed(self):
        parts = {f"momentum_{'x' * 1000}{number}.w": torch.zeros(1) for number in range(5000)}
        found = take_encoder(parts | {"backbone.w": torch.zeros(1), "classifier.weight": torch.zeros(1)})
        assert list(found.tensors) == ["backbone.w", "classifier.weight"]
        (note,) = found.notes
        assert "left out (5000 tensors)" in note
        assert len(note) < 2000

    def test_each_set_gets_plain_names(self):
        for branch, value in (("clean", 0), ("adversarial", 1), ("labels", 2)):
            found = fit(small("012"), branch)
            assert found.branch == branch
            for name in ("bn1.weight", "layer1.0.downsample.1.running_mean"):
                assert torch.equal(found.encoder[name], torch.full_like(SMALL[name], value))

    def test_a_list_without_numbers_is_one_set_without_a_name(self):
        found = fit(small([""]))
        assert found.branch == ""
        assert list(found.encoder) == list(SMALL)

    def test_the_users_rules_see_the_names_of_the_file(self):
        state = small("01") | under("fc.fc1", public.linear(4, 4, 0))
        assert fit(state, ignore=["fc.*"]).ignored == ("fc.fc1.weight", "fc.fc1.bias")
        assert fit(small("01"), ignore=["*.bn_list.1.*"]).branch == "clean"

    def test_counters_that_a_set_lacks_start_at_zero(self):
        state = small("01")
        del state["bn1.bn_list.1.num_batches_tracked"]
        assert fit(state).encoder["bn1.num_batches_tracked"] == 0

    def test_a_file_of_nobody_in_particular_passes_unchanged(self):
        state = {"conv1.weight": torch.zeros(1), "head_proj.weight": torch.zeros(1), "projector.w": torch.zeros(1)}
        found = take_encoder(state)
        assert found.tensors == state
        assert (found.branch, found.notes) == ("", ())

    @pytest.mark.parametrize(
        ("names", "beside", "writer"),
        [
            (public.deacl()["state_dict"], {"pytorch-lightning_version"}, "DeACL"),
            (public.solo()["state_dict"], set(), "solo-learn"),
            ({"encoder.conv1.weight", "classifier.weight"}, {"pytorch-lightning_version"}, "solo-learn"),
            ({"backbone.conv1.weight", "classifier.weight"}, set(), ""),
            ({"backbone.conv1.weight", "projector.0.weight"}, {"pytorch-lightning_version"}, ""),
            (public.advcl(), {"rng_state"}, "AdvCL"),
            (public.rocl()["model"], set(public.rocl()), "RoCL"),
            (public.rocl()["model"], {"acc", "epoch"}, ""),
            (public.acl(), {"optim"}, ""),
        ],
    )
    def test_whose_code_wrote_it(self, names, beside, writer):
        assert written_by(names, beside) == writer


def test_rocl_has_one_set_and_no_normalisation(plan):
    content = public.rocl()
    made = plan(content)
    own = {name.removeprefix("module."): tensor for name, tensor in content["model"].items()}
    assert_same(made, public.features(own, public.ROCL, images()))
    assert "like those of RoCL's code, whose network takes pixels in [0, 1] as they are" in said(made)


def test_advcls_fine_tuning_keeps_its_head_beside_the_network(plan):
    content = public.tuned_advcl()
    made = plan(content, encoder_only=False)
    own = {name.removeprefix("module."): tensor for name, tensor in content["model"].items()}
    head = content["classifier"]
    found = public.features(own, public.ROCL, images())
    assert_same(made, F.linear(found, head["fc.weight"].double(), head["fc.bias"].double()))
    assert "'model', a head from 'classifier'; not looked at: epoch" in said(made)
    assert "head_pred, head_proj, linear" in said(made)


class TestStemsWithPaddingTwo:
    FIGURES = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))

    def expected(self, state, naming, normalisation=None):
        own = {name.removeprefix("backbone."): tensor for name, tensor in state.items() if name.startswith("backbone.")}
        x = images()
        if normalisation:
            mean, std = (torch.tensor(figures).view(1, 3, 1, 1) for figures in normalisation)
            x = (x - mean) / std
        found = public.features(own, naming, x)
        return F.linear(found, state["classifier.weight"].double(), state["classifier.bias"].double())

    def test_deacls_is_known_by_its_names(self, plan):
        content = public.deacl()
        made = plan(content, encoder_only=False)
        assert made.recipe.backbone.options["stem"] == "padded"
        assert (made.recipe.backbone.mean, made.recipe.backbone.std) == tuple(map(list, public.DEACL))
        assert_same(made, self.expected(content["state_dict"], public.DEACL_NAMING))
        assert "padding 2: backbone.stem is padded" in said(made)
        assert "classifier_adv, momentum_backbone" in said(made)

    def test_a_stem_that_the_user_names_comes_first(self, plan):
        made = plan(public.deacl(), "backbone.stem=small")
        assert made.recipe.backbone.options["stem"] == "small"

    def test_solo_learns_is_asked_for_with_its_normalisation(self, plan):
        with pytest.raises(UsageError, match="do not show the padding of the stem and the normalisation") as caught:
            plan(public.solo())
        assert "--set backbone.stem=padded" in caught.value.hint
        assert "--mean 0.4914,0.4822,0.4465 --std 0.2470,0.2435,0.2616" in caught.value.hint
        with pytest.raises(UsageError, match="do not show the normalisation") as caught:
            plan(public.solo(), "backbone.stem=padded")
        assert "stem" not in caught.value.hint
        with pytest.raises(UsageError, match="do not show the padding of the stem") as caught:
            plan(public.solo(), mean=self.FIGURES[0], std=self.FIGURES[1])
        assert "--mean" not in caught.value.hint

    def test_solo_learns_gives_its_own_logits(self, plan):
        content, (mean, std) = public.solo(), self.FIGURES
        made = plan(content, "backbone.stem=padded", encoder_only=False, mean=mean, std=std)
        assert_same(made, self.expected(content["state_dict"], public.SOLO, self.FIGURES))
        other = plan(content, "backbone.stem=small", encoder_only=False, mean=mean, std=std)
        assert (output(other) - output(made)).abs().max() > 0.01 * output(made).abs().max()

    def test_the_same_without_lightnings_frame_and_under_its_first_name(self, plan):
        state = {name.replace("backbone", "encoder"): tensor for name, tensor in public.solo()["state_dict"].items()}
        with pytest.raises(UsageError, match="solo-learn"):
            plan(state)
        made = plan(state, "backbone.stem=padded", mean=self.FIGURES[0], std=self.FIGURES[1])
        assert "momentum_encoder, momentum_projector, projector, queue, queue_ptr" in said(made)
