"""benchmarks/step_profile.py: whose time is whose, on a real profile of the CPU and on made-up ones of a GPU."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from rushkit.setup.start import machine_of
from rushkit.system import Machine

FILE = Path(__file__).parents[2] / "benchmarks" / "step_profile.py"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("step_profile", FILE)
    made = importlib.util.module_from_spec(spec)
    sys.modules["step_profile"] = made
    spec.loader.exec_module(made)
    return made


def test_every_kind_of_work_of_a_step_is_found_and_nothing_is_lost(module, tiny):
    recipe = tiny("pretrain.batch_size=16")
    ours, bare = module.steps_of("float32", recipe, machine_of(recipe))
    bare()
    with module.nt_xent_marked(), profile(activities=[ProfilerActivity.CPU]) as seen:
        ours()
    kinds = module.seconds_by_kind(seen.events(), on_device=False)
    assert {"convolution", "batch norm", "views", "noise", "NT-Xent", "optimizer", "copies"} <= set(kinds)
    assert sum(kinds.values()) == pytest.approx(sum(event.self_cpu_time_total for event in seen.events()) / 1e6)


def test_a_backward_pass_counts_to_the_kind_of_its_forward_pass(module):
    x = torch.rand(64, 16, requires_grad=True)
    with module.nt_xent_marked(), profile(activities=[ProfilerActivity.CPU]) as seen:
        module.nt_xent.nt_xent(x, x.flip(0), 0.5).backward()
    kinds = module.seconds_by_kind(seen.events(), on_device=False)
    backward = [event for event in seen.events() if event.name == "LogSoftmaxBackward0"]
    assert backward
    # The flip and the start of the backward pass are not the loss.
    assert kinds["NT-Xent"] > 0.5 * sum(kinds.values())


def operator(name, parent=None, kernels=(), number=-1, scope=0):
    taken = [SimpleNamespace(name=kernel, duration=length) for kernel, length in kernels]
    return SimpleNamespace(
        name=name,
        cpu_parent=parent,
        kernels=taken,
        sequence_nr=number,
        scope=scope,
        self_cpu_time_total=1.0,
        device_type=DeviceType.CPU,
    )


def kernel(name, start, end):
    return SimpleNamespace(name=name, device_type=DeviceType.CUDA, time_range=SimpleNamespace(start=start, end=end))


def test_kernels_count_to_the_operator_that_launched_them_and_else_by_their_names(module):
    views = operator("part: views")
    events = [
        views,
        operator("aten::mul", views, [("elementwise", 10)]),
        operator("aten::cudnn_convolution", None, [("sm90_xmma_fprop", 200)]),
        operator("aten::mul", None, [("elementwise", 5)]),
        kernel("elementwise", 0, 10),
        kernel("sm90_xmma_fprop", 10, 210),
        kernel("elementwise", 210, 215),
        # Of a graph, so that no operator launched them.
        kernel("sm90_xmma_fprop", 300, 500),
        kernel("batch_norm_collect_statistics", 450, 520),
        # The span of a part is no work.
        kernel("part: views", 0, 10),
    ]
    seconds = module.seconds_by_kind(events, on_device=True)
    microseconds = {kind: round(length * 1e6, 3) for kind, length in seconds.items()}
    assert microseconds == {"convolution": 400, "idle": 85, "batch norm": 70, "views": 10, "other": 5}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sm90_xmma_wgrad_implicit_gemm_bf16", "convolution"),
        ("void cudnn::bn_fw_tr_1C11_kernel_NHWC", "batch norm"),
        ("triton_red_fused__native_batch_norm_legit_functional_3", "batch norm"),
        ("triton_per_fused__log_softmax_nll_loss_forward_7", "NT-Xent"),
        ("Memcpy DtoD (Device -> Device)", "copies"),
        ("multi_tensor_apply_kernel<FusedSgdMathFunctor>", "optimizer"),
        ("vectorized_elementwise_kernel", "other"),
    ],
)
def test_a_kernel_is_known_by_its_name(module, name, kind):
    assert module.kind_of_kernel(name) == kind


@pytest.mark.parametrize(
    ("spans", "idle"), [([], 0), ([(0, 1)], 0), ([(0, 2), (1, 3), (5, 6)], 2), ([(0, 9), (1, 2), (10, 11)], 1)]
)
def test_idle_time_is_what_no_kernel_covers(module, spans, idle):
    assert module.idle_seconds(spans) == idle


def test_what_cannot_be_done_here_says_why(module, monkeypatch):
    cpu = Machine(torch.device("cpu"), "float32")
    monkeypatch.setattr(module, "compile_obstacle", lambda device: "no compiler")
    assert module.obstacle_to("float32", cpu) is None
    assert "float32 here" in module.obstacle_to("eager", cpu)
    assert "CUDA" in module.obstacle_to("graph", cpu)
    assert module.obstacle_to("compiled", cpu) == "no compiler"


def test_a_way_that_fails_leaves_the_others(module, tiny, monkeypatch):
    recipe = tiny("pretrain.batch_size=16")
    real = module.measured

    def measured(way, *rest):
        if way == "eager":
            raise RuntimeError("out of memory\nand more")
        return real(way, *rest)

    monkeypatch.setattr(module, "measured", measured)
    monkeypatch.setattr(module, "obstacle_to", lambda *_: None)
    *_, (found, lines) = module.measure_all(["eager", "float32"], recipe, machine_of(recipe), 0.01)
    assert found["left_out"] == {"eager": "RuntimeError: out of memory"}
    (row,) = found["ways"]
    assert row["x_bare_float32"] == pytest.approx(row["per_second"] * row["bare_seconds"])
    assert "float32, float32:" in lines[0]
