"""Whether bf16 is worth it: the units that a CPU has, the trial, and what is remembered of it."""

from __future__ import annotations

import json
import os

import pytest
import torch

from rushkit import bf16
from rushkit.bf16 import Trial, cpu_name, cpu_units, has_bf16_units, measure, trial

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """Nothing is remembered, in this process or on the disk, before a test or after it."""
    monkeypatch.setenv("RUSHKIT_CACHE", str(tmp_path / "cache"))
    for name in bf16._LIMITS:
        monkeypatch.delenv(name, raising=False)
    remembered = (bf16.cpu_units, bf16.cpu_name, bf16.has_bf16_units, bf16._cpu_info)
    for function in remembered:
        function.cache_clear()
    yield
    for function in remembered:
        function.cache_clear()


@pytest.fixture
def machine(monkeypatch):
    """Set what the CPU is called and has, and what a trial measures; the trials that were made are returned."""

    def set_up(name: str = "Zen 5", units: tuple[str, ...] = ("AVX512-BF16",), ratio: float = 1.9) -> list[float]:
        made: list[float] = []
        monkeypatch.setattr(bf16, "cpu_name", lambda: name)
        monkeypatch.setattr(bf16, "cpu_units", lambda: units)
        monkeypatch.setattr(bf16, "measure", lambda: made.append(ratio) or ratio)
        return made

    return set_up


def without_torchs_answer(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)


@pytest.mark.parametrize(
    ("said", "units"),
    [
        ({"avx512_bf16": True, "amx_bf16": False, "avx2": True}, ("AVX512-BF16",)),
        ({"avx512_bf16": True, "amx_bf16": True}, ("AVX512-BF16", "AMX-BF16")),
        ({"neon": True, "bf16": True, "sve_max_length": 256}, ("Arm BF16",)),
        ({"avx512_bf16": False, "amx_bf16": False}, ()),
    ],
    ids=["avx512", "amx", "arm", "none"],
)
def test_torch_says_what_the_cpu_has(monkeypatch, tmp_path, said, units):
    # Linux would say otherwise.
    (tmp_path / "cpuinfo").write_text(f"flags : {'amx_bf16' if not units else ''}\n")
    monkeypatch.setattr(bf16, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: said, raising=False)
    assert cpu_units() == units
    assert has_bf16_units(CPU) == bool(units)


@pytest.mark.parametrize(
    ("words", "units"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512vbmi", ("AVX512-BF16",)),
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile", ("AMX-BF16",)),
        ("Features\t: fp asimd bf16 i8mm", ("Arm BF16",)),
        ("flags\t\t: fpu avx512f avx512_vnni avx512_vbmi2", ()),
        (None, ()),
    ],
    ids=["avx512", "amx", "arm", "without", "no list"],
)
@pytest.mark.parametrize("torchs", ["none", "unknown architecture", "raises"])
def test_linux_says_it_where_torch_does_not(monkeypatch, tmp_path, words, units, torchs):
    def fail():
        raise RuntimeError("cpuinfo could not be initialised")

    without_torchs_answer(monkeypatch)
    if torchs != "none":
        answer = fail if torchs == "raises" else lambda: {"architecture": "riscv"}
        monkeypatch.setattr(torch.cpu, "get_capabilities", answer, raising=False)
    file = tmp_path / "cpuinfo"
    if words is not None:
        file.write_text(f"processor\t: 0\nmodel name\t: A  CPU\x1b[2J\n{words}\n")
    monkeypatch.setattr(bf16, "_CPU_INFO", file)
    monkeypatch.setattr(bf16.sys, "platform", "linux")
    assert cpu_units() == units
    if words is not None:
        assert cpu_name() == "A CPU\\x1b[2J"


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize(
    ("limit", "units"),
    [("AVX512_CORE", ()), ("avx2", ()), ("AVX512_CORE_BF16", ("AVX512-BF16",)), ("ALL", ("AVX512-BF16",))],
)
def test_units_that_the_environment_forbids_do_not_count(monkeypatch, name, limit, units):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setenv(name, limit)
    assert cpu_units() == units


@pytest.mark.parametrize(("said", "units"), [(b"1\n", ("Arm BF16",)), (b"0\n", ()), (b"\xff", ()), (None, ())])
def test_macos_is_asked_by_sysctl(monkeypatch, tmp_path, said, units):
    asked = []

    def run(command, **options):
        asked.append(command)
        if said is None:
            raise FileNotFoundError(command[0])
        return bf16.subprocess.CompletedProcess(command, 0, stdout=said)

    without_torchs_answer(monkeypatch)
    monkeypatch.setattr(bf16, "_CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(bf16.sys, "platform", "darwin")
    monkeypatch.setattr(bf16.subprocess, "run", run)
    assert cpu_units() == units
    assert asked == [["/usr/sbin/sysctl", "-n", "hw.optional.arm.FEAT_BF16"]]


def test_a_cpu_without_a_name_is_called_something(monkeypatch, tmp_path):
    monkeypatch.setattr(bf16, "_CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(bf16.platform, "processor", lambda: "")
    monkeypatch.setattr(bf16.platform, "machine", lambda: "")
    assert cpu_name() == "unknown CPU"


def test_the_trial_is_the_median_of_alternating_rounds(monkeypatch):
    monkeypatch.setattr(bf16, "_BATCH", 1)
    # Two warm-up passes, the deadline, then rounds of float32 and bf16: 4/2, 9/1 (something came in between), 6/2.
    lasted = [50.0, 50.0, 4.0, 2.0, 9.0, 1.0, 6.0, 2.0]

    def readings():
        now = 0.0
        for number, seconds in enumerate(lasted):
            if number == 2:
                yield now  # for the deadline
            yield now
            now += seconds
            yield now
        yield now  # the time is over, and three rounds are enough

    ticks = readings()
    monkeypatch.setattr(bf16.time, "perf_counter", lambda: next(ticks))
    assert measure() == 3.0
    assert list(ticks) == []


def test_the_trial_draws_no_random_numbers_and_needs_no_gradients_enabled(monkeypatch):
    monkeypatch.setattr(bf16, "_BATCH", 1)
    before = torch.random.get_rng_state()
    with torch.no_grad():
        assert measure() > 0
    assert torch.equal(torch.random.get_rng_state(), before)


def test_where_torch_cannot_compute_in_bf16_nothing_is_won(monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(bf16.F, "conv2d", fail)
    assert measure() == 0.0


def test_a_trial_is_made_once_and_remembered_by_the_cpu_its_units_torch_and_limits(machine, monkeypatch):
    made = machine(ratio=1.9)
    assert trial() == Trial(1.9, remembered=False)
    assert trial() == Trial(1.9, remembered=True)
    assert len(made) == 1

    machine(name="Sapphire Rapids", ratio=2.5)
    assert trial() == Trial(2.5, remembered=False)
    machine(units=("AVX512-BF16", "AMX-BF16"), ratio=2.2)
    assert trial() == Trial(2.2, remembered=False)
    machine(ratio=0.5)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert trial() == Trial(0.5, remembered=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(torch, "__version__", "2.99")
    assert trial() == Trial(0.5, remembered=False)


def test_the_machines_of_a_shared_folder_are_all_remembered(machine):
    for name, ratio in (("a", 1.5), ("b", 2.0)):
        machine(name=name, ratio=ratio)
        trial()
    for name, ratio in (("a", 1.5), ("b", 2.0)):
        made = machine(name=name, ratio=9.0)
        assert trial() == Trial(ratio, remembered=True)
        assert not made


def test_only_so_many_machines_are_remembered_the_newest_of_them(machine, monkeypatch):
    monkeypatch.setattr(bf16, "_MOST", 2)
    for name in "abc":
        machine(name=name)
        trial()
    assert [place[0] for place in json.loads(bf16._file().read_text())["trials"]] == ["b", "c"]


PLACE = f"Zen 5, AVX512-BF16, torch {torch.__version__}"
HOSTILE = {
    "torn": '{"trials": {"Zen',
    "empty": "",
    "binary": b"\xff\xfe\x00",
    "a list": "[1, 2]",
    "a number": "7",
    "no trials": "{}",
    "trials that are a list": '{"trials": [1]}',
    "NaN": json.dumps({"trials": {PLACE: float("nan")}}),
    "infinite": json.dumps({"trials": {PLACE: float("inf")}}),
    "negative": json.dumps({"trials": {PLACE: -1.0}}),
    "zero": json.dumps({"trials": {PLACE: 0.0}}),
    "huge": json.dumps({"trials": {PLACE: 1e300}}),
    "text": json.dumps({"trials": {PLACE: "9"}}),
    "true": json.dumps({"trials": {PLACE: True}}),
    "a huge integer": '{"trials": {"' + PLACE + '": 1' + "0" * 5000 + "}}",
    "too deep": '{"trials": ' + "[" * 30000,
    "too long": json.dumps({"trials": {PLACE: 9.0}, "more": "x" * (1 << 16)}),
}


@pytest.mark.parametrize("damage", HOSTILE)
def test_a_hostile_file_is_ignored_and_made_again(machine, damage):
    made, file, content = machine(), bf16._file(), HOSTILE[damage]
    file.parent.mkdir(parents=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert trial() == Trial(1.9, remembered=False)
    assert trial() == Trial(1.9, remembered=True)
    assert len(made) == 1
    assert json.loads(file.read_text()) == {"trials": {PLACE: 1.9}}


def test_a_file_that_is_none_is_not_read_and_a_link_is_not_written_through(machine, tmp_path):
    machine()
    file = bf16._file()
    file.parent.mkdir(parents=True)
    os.mkfifo(file)
    assert trial() == Trial(1.9, remembered=False)
    file.unlink()
    (tmp_path / "mine").write_text("mine")
    file.symlink_to(tmp_path / "mine")
    assert trial() == Trial(1.9, remembered=False)
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("place", ["a file", "no such user", "no name"])
def test_where_nothing_can_be_written_the_trial_is_made_each_time(machine, monkeypatch, tmp_path, place):
    (tmp_path / "taken").write_text("")
    folder = {"a file": str(tmp_path / "taken" / "below"), "no such user": "/dev/null/x", "no name": "x" * 5000}[place]
    monkeypatch.setenv("RUSHKIT_CACHE", folder)
    made = machine()
    assert [trial(), trial()] == [Trial(1.9, remembered=False)] * 2
    assert len(made) == 2


def test_what_is_measured_out_of_bounds_is_remembered_at_the_bound(machine):
    machine(ratio=0.0)
    assert trial() == Trial(1e-3, remembered=False)
    assert trial() == Trial(1e-3, remembered=True)
