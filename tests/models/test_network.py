from __future__ import annotations

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from rushkit.errors import CheckpointError
from rushkit.models.network import (
    Network,
    build_backbone,
    freeze_encoder,
    initialised_from,
    load_weights,
    macs,
    num_parameters,
    set_modes,
)


def small_network(seed: int = 0) -> Network:
    encoder = build_backbone("resnet10-small", {}, 3, 8, seed)
    with initialised_from(seed, "head"):
        return Network(encoder, nn.Linear(128, 4))


def images() -> Tensor:
    return torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def statistics(network: Network) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def test_forward_is_head_of_encoder():
    network = small_network().eval()
    with torch.no_grad():
        torch.testing.assert_close(network(images()), network.head(network.encoder(images())))


def test_state_dict_names_its_parts():
    assert {name.split(".")[0] for name in small_network().state_dict()} == {"encoder", "head"}


def test_saved_tensors_call_a_projector_projector():
    network = Network(nn.Linear(2, 3), nn.Linear(3, 4), kind="projector")
    assert set(network.tensors()) == {"encoder.weight", "encoder.bias", "projector.weight", "projector.bias"}
    assert network.kind == "projector"


def test_freezing_leaves_exactly_the_batch_norm_biases_and_the_head():
    network = small_network()
    trainable = freeze_encoder(network)
    biases = {
        f"encoder.{name}.bias" for name, layer in network.encoder.named_modules() if isinstance(layer, nn.BatchNorm2d)
    }
    assert len(biases) == 12  # the stem, two a block, and three shortcuts
    assert set(trainable) == biases | {"head.weight", "head.bias"}
    assert {name for name, parameter in network.named_parameters() if parameter.requires_grad} == set(trainable)


def test_freezing_all_leaves_the_head_and_freezing_none_everything():
    assert freeze_encoder(small_network(), "all") == ["head.weight", "head.bias"]
    network = small_network()
    assert freeze_encoder(network, "none") == [name for name, _ in network.named_parameters()]


def test_only_what_is_trainable_moves_in_a_step():
    network = small_network()
    trainable = freeze_encoder(network)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    network(images()).square().sum().backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    moved = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == set(trainable)


def test_freezing_knows_timms_fused_batch_norm_and_layers_without_bias():
    encoder = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct2d(4), nn.BatchNorm2d(4, affine=False), nn.LayerNorm(4))
    assert freeze_encoder(Network(encoder, nn.Identity())) == ["encoder.1.bias"]


def test_eval_statistics_stay_while_training():
    network = small_network()
    before = statistics(network)
    set_modes(network, training=True, bn="eval")
    network(images())
    assert network.training
    assert network.head.training
    after = statistics(network)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_train_statistics_move_while_training():
    network = small_network()
    before = statistics(network)
    set_modes(network, training=True, bn="train")
    network(images())
    after = statistics(network)
    assert all(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("bn", ["train", "eval"])
def test_without_training_every_module_is_in_eval_mode(bn):
    network = small_network()
    set_modes(network, training=False, bn=bn)
    assert not any(module.training for module in network.modules())


def test_training_again_after_eval_statistics_thaws_them():
    network = small_network()
    set_modes(network, training=True, bn="eval")
    set_modes(network, training=True, bn="train")
    assert all(module.training for module in network.modules())


def test_head_normalisation_is_not_the_encoders():
    network = Network(nn.Sequential(nn.BatchNorm1d(2)), nn.BatchNorm1d(2))
    set_modes(network, training=True, bn="eval")
    assert network.head.training
    assert freeze_encoder(network) == ["encoder.0.bias", "head.weight", "head.bias"]


def test_initialising_puts_the_global_generator_back_even_after_an_error():
    before = torch.random.get_rng_state()
    with pytest.raises(RuntimeError), initialised_from(0, "head"):  # noqa: PT012
        torch.rand(3)
        nn.Linear(-1, 3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_initialising_separates_purposes():
    weights = []
    for purpose in ("head", "head", "other"):
        with initialised_from(1, purpose):
            weights.append(nn.Linear(3, 3).weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_num_parameters_counts_all_or_only_the_trainable():
    module = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    module[0].requires_grad_(False)
    assert num_parameters(module) == 20 + 12
    assert num_parameters(module, trainable=True) == 12


def test_macs_counts_a_convolution_by_formula_and_leaves_the_module_as_it_was():
    module = nn.Sequential(nn.Conv2d(3, 7, 3, padding=1), nn.BatchNorm2d(7), nn.Dropout())
    module[2].eval()
    before = [part.training for part in module.modules()], module[1].running_mean.clone()
    assert macs(module, 10) == 10 * 10 * 7 * 3 * 9
    assert [part.training for part in module.modules()] == before[0]
    assert torch.equal(module[1].running_mean, before[1])


def test_loading_gives_the_same_outputs():
    source, target = small_network(1).eval(), small_network(2).eval()
    tensors = source.tensors()
    for part, prefix in ((target.encoder, "encoder."), (target.head, "head.")):
        assert load_weights(part, tensors, prefix).complete
    with torch.no_grad():
        torch.testing.assert_close(target(images()), source(images()), rtol=0, atol=0)


def test_loading_reports_what_is_missing_and_unexpected():
    target = nn.Linear(2, 3)
    bias = target.bias.detach().clone()
    tensors = {"head.weight": torch.ones(3, 2), "head.scale": torch.ones(1), "encoder.bias": torch.zeros(3)}
    report = load_weights(target, tensors, "head.")
    assert (report.loaded, report.missing, report.unexpected) == (("weight",), ("bias",), ("scale",))
    assert not report.complete
    assert torch.equal(target.weight, torch.ones(3, 2))
    assert torch.equal(target.bias, bias)


def test_loading_another_shape_names_the_tensors_and_changes_nothing():
    target = nn.Linear(2, 3)
    before = target.bias.detach().clone()
    with pytest.raises(CheckpointError, match=r"head\.weight is 4x2 there and 3x2 here") as caught:
        load_weights(target, {"head.weight": torch.ones(4, 2), "head.bias": torch.ones(3)}, "head.")
    assert "architecture" in caught.value.hint
    assert torch.equal(target.bias, before)


def test_loading_from_another_architecture_counts_what_it_does_not_name():
    encoder = build_backbone("resnet10-small", {}, 3, 8, seed=0)
    wider = {f"encoder.{name}": tensor[..., None] for name, tensor in encoder.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"and {len(wider) - 3} more\n"):
        load_weights(encoder, wider, "encoder.")


def test_loading_from_another_kind_of_checkpoint_says_what_it_holds():
    with pytest.raises(CheckpointError, match=r"holds encoder\.weight, projector\.weight"):
        load_weights(nn.Linear(2, 3), {"encoder.weight": torch.ones(1), "projector.weight": torch.ones(3, 2)}, "head.")
