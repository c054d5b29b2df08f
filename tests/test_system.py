"""The machine: what auto stands for, the compiler, and memory that is freed and wanted again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import torch
from scipy import stats
from torch import nn

from rushkit import bf16, system
from rushkit.bf16 import Trial
from rushkit.errors import UsageError
from rushkit.system import (
    Machine,
    choose_machine,
    choose_precision,
    compile_obstacle,
    derived_seed,
    generator,
    uniform_draw,
)

CPU = torch.device("cpu")

# Minor page faults while 64 MiB are filled where 128 MiB have been freed: 16384 pages, or next to none.
FAULTS = """
import resource, torch
from rushkit.system import choose_machine
choose_machine("cpu")
torch.ones(1 << 25)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(**variables: str) -> int:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")} | variables
    done = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells glibc what to do")
def test_a_machine_says_how_many_threads_it_has(monkeypatch):
    for threads, words in ((1, "cpu (1 thread), float32"), (2, "cpu (2 threads), float32")):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert str(choose_machine("cpu")) == words


def test_memory_that_was_freed_is_used_again():
    assert page_faults() < 1000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells glibc what to do")
def test_malloc_settings_of_the_environment_are_left_alone():
    assert page_faults(MALLOC_TRIM_THRESHOLD_="131072") > 10000


def test_auto_compiles_nothing_on_a_cpu():
    assert not Machine(CPU, "float32", "auto").compiles


@pytest.mark.parametrize("compile, times", [("off", 0), ("on", 1)])
def test_networks_are_compiled_only_where_that_is_asked_for(monkeypatch, compile, times):
    monkeypatch.setattr(system, "compile_obstacle", lambda device: None)
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    networks = nn.Linear(2, 2), nn.Linear(3, 3)

    Machine(CPU, "float32", compile).compile_in_place(*networks)

    assert compiled == [*networks] * times


@pytest.fixture
def broken_compiler(monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError("no compiler found\nand a page of advice")

    monkeypatch.setattr(torch, "compile", fail)
    compile_obstacle.cache_clear()
    yield
    compile_obstacle.cache_clear()


@pytest.mark.usefixtures("broken_compiler")
def test_compiling_that_was_asked_for_and_cannot_be_had_is_a_usage_error():
    with pytest.raises(UsageError, match=r"torch.compile does not work on cpu: no compiler found") as caught:
        choose_machine("cpu", compile="on").compile_in_place(nn.Linear(2, 2))

    assert "system.compile=off" in str(caught.value.hint)


@pytest.mark.usefixtures("broken_compiler")
def test_auto_does_without_a_compiler_that_does_not_work(monkeypatch):
    # A CUDA device by name only: the trial, which is all that would touch it, fails here anyway.
    assert not Machine(torch.device("cuda"), "bf16", "auto").compiles


def test_a_working_compiler_is_taken_on_cuda(monkeypatch):
    monkeypatch.setattr(system, "compile_obstacle", lambda device: None)

    assert Machine(torch.device("cuda"), "bf16", "auto").compiles
    assert not Machine(torch.device("cuda"), "bf16", "off").compiles


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler on a CPU")
# The compiler's own imports warn, of what is no concern of its users.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_trains_the_same_parameters():
    machine = choose_machine("cpu", compile="on")
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    x = torch.rand(5, 4, generator=generator(0, "x"))
    network(x).sum().backward()
    plain = network[0].weight.grad.clone()
    network.zero_grad()

    names = list(network.state_dict())
    machine.compile_in_place(network)
    network(x).sum().backward()

    assert list(network.state_dict()) == names

    torch.testing.assert_close(network[0].weight.grad, plain)


def test_seed_purpose_and_counters_do_not_run_into_one_another():
    asked = [(1, "a", 12), (1, "a", 1, 2), (1, "a1", 2), (11, "a", 2), (1, "a", 2, 1), (1, "a"), (2, "a", 12)]
    seeds = [derived_seed(*each) for each in asked]
    assert len(set(seeds)) == len(asked)
    assert all(0 <= each < 2**63 for each in seeds)
    # Two that differ in their last bits alone would be one stream on a device that takes fewer.
    assert len({each % 2**32 for each in seeds}) == len(asked)


def test_uniform_draws_are_uniform_and_never_0(monkeypatch):
    draws = [uniform_draw(0, "certify uniform", image) for image in range(2000)]
    assert draws == [uniform_draw(0, "certify uniform", image) for image in range(2000)]
    # The distance of a uniform sample is larger with probability 1e-6.
    assert stats.kstest(draws, "uniform").pvalue > 1e-6
    # A draw is the upper end of its cell of 2⁻⁵³.
    for seed, end in ((0, 2**-53), (2**10 - 1, 2**-53), (2**10, 2**-52), (2**63 - 1, 1.0)):
        monkeypatch.setattr(system, "derived_seed", lambda *words, seed=seed: seed)
        assert uniform_draw(0, "a") == end


@pytest.fixture
def cpu(monkeypatch):
    """Set which units a CPU has, and what a trial says of them; the trials that were made are returned."""

    def set_up(units: tuple[str, ...], ratio: float = 1.0, remembered: bool = False) -> list[float]:
        made: list[float] = []
        monkeypatch.setattr(bf16, "cpu_name", lambda: "Zen 5")
        monkeypatch.setattr(bf16, "cpu_units", lambda: units)
        monkeypatch.setattr(bf16, "trial", lambda: made.append(ratio) or Trial(ratio, remembered))
        return made

    return set_up


def test_a_cpu_trains_in_bf16_where_it_has_units_and_a_trial_shows_them_faster(cpu):
    made = cpu(("AVX512-BF16", "AMX-BF16"), ratio=1.9)
    machine = choose_machine("cpu", purpose="training")
    assert (machine.precision, len(made)) == ("bf16", 1)
    has = "Zen 5 has AVX512-BF16 and AMX-BF16"
    assert machine.why == f"{has}, and in a trial bf16 was 1.90 times as fast as float32"
    cpu(("Arm BF16",), ratio=1.1, remembered=True)
    assert choose_precision("auto", CPU, "training") == (
        "bf16",
        "Zen 5 has Arm BF16, and in an earlier trial bf16 was 1.10 times as fast as float32",
    )


def test_a_cpu_trains_in_float32_where_a_trial_shows_its_units_no_faster(cpu):
    cpu(("AVX512-BF16",), ratio=0.93)
    assert choose_precision("auto", CPU, "training") == (
        "float32",
        "Zen 5 has AVX512-BF16, and in a trial bf16 was 0.93 times as fast as float32; it must be 1.1 times",
    )


def test_a_cpu_without_units_trains_in_float32_without_a_trial(cpu):
    made = cpu(())
    assert choose_precision("auto", CPU, "training") == ("float32", "Zen 5 has no units for bf16")
    assert made == []


def test_figures_are_made_in_float32_on_a_cpu_that_trains_in_bf16(cpu):
    made = cpu(("AVX512-BF16",), ratio=2.0)
    assert choose_precision("auto", CPU) == ("float32", "figures are made in float32 on a CPU")
    assert choose_machine("cpu").precision == "float32"
    assert choose_machine("cpu").search_precision == "float32"
    assert made == []


@pytest.mark.parametrize("name", ["float32", "bf16"])
@pytest.mark.parametrize("purpose", ["training", "figures"])
def test_what_was_asked_for_is_taken_without_a_trial(cpu, name, purpose):
    made = cpu(("AVX512-BF16",), ratio=2.0)
    assert choose_precision(name, CPU, purpose) == (name, "system.precision says so")
    assert made == []


@pytest.mark.parametrize("name", ["auto", "float32", "bf16"])
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_features_are_float32_whatever_was_asked_for(cpu, monkeypatch, name, device):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    cpu(("AVX512-BF16",), ratio=2.0)
    assert choose_precision(name, torch.device(device), "features")[0] == "float32"


@pytest.mark.parametrize("purpose", ["training", "figures"])
@pytest.mark.parametrize(("supported", "precision"), [(True, "bf16"), (False, "float32")])
def test_a_gpu_computes_everything_in_bf16_where_it_can(monkeypatch, purpose, supported, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    assert choose_precision("auto", torch.device("cuda"), purpose)[0] == precision
    assert choose_precision("auto", torch.device("mps"), purpose)[0] == "float32"


@pytest.mark.parametrize("name", ["", "fp16", "BF16", "auto\x1b[2J"])
@pytest.mark.parametrize("purpose", ["training", "figures", "features"])
def test_an_unknown_precision_is_a_usage_error(name, purpose):
    with pytest.raises(UsageError, match="unknown precision") as caught:
        choose_precision(name, CPU, purpose)
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize("has", [True, False])
def test_attacks_search_in_bf16_where_the_device_has_units_for_it_alone(monkeypatch, has):
    monkeypatch.setattr(system, "has_bf16_units", lambda device: has)
    assert Machine(CPU, "bf16").search_precision == ("bf16" if has else "float32")
    assert Machine(CPU, "float32").search_precision == "float32"
    assert str(Machine(CPU, "bf16").in_attacks).endswith("float32, gradients in bf16" if has else "float32")
