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

from rushkit import system
from rushkit.errors import UsageError
from rushkit.system import (
    Machine,
    choose_machine,
    compile_obstacle,
    derived_seed,
    generator,
    has_bf16_units,
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


@pytest.mark.parametrize(
    ("words", "has"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512vbmi", True),
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu avx512f avx512_vnni avx512_vbmi2", False),
        (None, False),
    ],
    ids=["avx512", "amx", "arm", "without", "no list"],
)
def test_a_cpu_has_bf16_units_if_it_says_so_and_attacks_search_in_bf16_there_alone(tmp_path, monkeypatch, words, has):
    file = tmp_path / "cpuinfo"
    if words is not None:
        file.write_text(f"processor\t: 0\n{words}\n")
    monkeypatch.setattr(system, "_CPU_FEATURES", file)
    has_bf16_units.cache_clear()
    try:
        cpu = torch.device("cpu")
        assert has_bf16_units(cpu) == has
        assert Machine(cpu, "bf16").search_precision == ("bf16" if has else "float32")
        assert Machine(cpu, "float32").search_precision == "float32"
    finally:
        has_bf16_units.cache_clear()
