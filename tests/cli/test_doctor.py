"""``rushkit doctor``."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rushkit.doctor.examination import DataFolder, DataSetState, Examination, RunsFolder
from rushkit.doctor.examine import advice


def test_the_doctor_tells_what_there_is(cli, folder):
    said = cli("doctor", "--json", "--set", "system.device=cpu")
    assert said.code == 0, said.err
    facts = json.loads(said.out)
    assert facts["device"] == "cpu"
    assert facts["versions"]["torch"]
    assert facts["data"]["sets"]["digits"] == {"state": "ready", "fetch": False}
    assert facts["data"]["sets"]["cifar10"]["state"] != "ready"
    assert facts["runs"]["free"] > 0
    assert facts["gflops"] > 0
    assert any(line.startswith("data: cifar10, ") for line in facts["advice"])
    assert not (folder / "runs").exists()


def test_the_doctor_speaks_on_a_terminal(cli):
    said = cli("doctor")
    assert said.code == 0, said.err
    assert "GFLOP/s" in said.out


def test_a_device_that_cannot_be_had_is_one_error(fails):
    fails(2, "doctor", "--set", "system.device=cuda:99")


HEALTHY = Examination(
    device="cuda",
    machine="cuda, bf16",
    precision="bf16",
    precision_reason="the GPU computes in bf16",
    figures_precision="bf16",
    figures_precision_reason="the GPU computes in bf16",
    compiles=True,
    compile_obstacle=None,
    threads=8,
    cores=8,
    accelerators=["H200"],
    gflops=1e4,
    paper_days=0.1,
    versions={},
    platform="Linux",
    data=DataFolder("data", {"digits": DataSetState("ready", fetch=False)}),
    runs=RunsFolder("runs", 2**40),
    plugins={"rushkit-ball/ball": "ok"},
)


def test_a_healthy_machine_gets_no_advice():
    assert advice(HEALTHY) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"paper_days": 53.4}, "about 53 days"),
        ({"compile_obstacle": "no Triton"}, "torch.compile does not work here: no Triton"),
        ({"device": "cpu", "threads": 1, "accelerators": []}, "1 of 8 cores"),
        ({"device": "cpu"}, "H200 could be used"),
        ({"runs": RunsFolder("runs", 2**30)}, "1.0 GiB are free for runs"),
        (
            {"data": DataFolder("d", {"stl10": DataSetState("missing", fetch=True)})},
            "stl10 would be downloaded",
        ),
        ({"plugins": {"bad/noise": "it raises"}}, "plugin bad/noise: it raises"),
    ],
)
def test_each_trouble_is_named_with_a_remedy(facts, words):
    (line,) = advice(replace(HEALTHY, **facts))
    assert words in line


def test_a_folder_of_ones_own_images_is_not_missing():
    images = DataFolder("data", {"folder": DataSetState("has neither train/ nor test/", fetch=False)})
    assert advice(replace(HEALTHY, data=images)) == []
