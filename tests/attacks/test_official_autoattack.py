"""``--model`` with ``--type autoattack`` against the official code, image by image, on networks of somebody's.

pyautoattack 0.2.0 (MIT) packages it: ``pip install --no-deps pyautoattack==0.2.0``; without it this is skipped.
CIFAR-10 where RUSHKIT_DATA has it, else the digits.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from scipy.stats import binomtest
from torch import nn

from rushkit import datasets
from rushkit.cli.app import main

pyautoattack = pytest.importorskip("pyautoattack")

IMAGES = 200
AGREE = 0.98
DATA = os.environ.get("RUSHKIT_DATA", "")
NAME = "cifar10" if (Path(DATA) / "cifar-10-batches-bin").is_dir() and DATA else "digits"
SIZE = 32 if NAME == "cifar10" else 8
# Where some of the images that are right at first hold out, and some do not.
EPS = {"linf": 0.75 / 255, "l2": 0.08} if NAME == "cifar10" else {"linf": 0.1, "l2": 0.7}

NETWORKS = """
from torch import nn


def conv(activation=nn.ReLU, width=12):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), activation(), nn.Conv2d(width, 2 * width, 3, 2, 1),
        activation(), nn.Flatten(), nn.LazyLinear(10),
    )


def pooled():
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.LazyLinear(10))


def smooth():
    return conv(nn.GELU, 8)
"""


def images_of(split: str):
    return datasets.create(NAME, root=DATA, **({"image_size": SIZE} if NAME == "digits" else {})).split(split)


@pytest.fixture(scope="module", params=["conv", "pooled", "smooth"])
def network(request, tmp_path_factory):
    """-> the folder of a file with the network and its weights, its name, the network itself."""
    folder = tmp_path_factory.mktemp("networks")
    (folder / "net.py").write_text(NETWORKS)
    scope: dict = {}
    exec(NETWORKS, scope)
    split = images_of("train")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = scope[request.param]()
        x, y = split.images[:4000] / 255, split.labels[:4000]
        net(x[:2])
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(12):
            for rows in torch.randperm(len(x)).split(100):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
    net.eval().requires_grad_(False)
    torch.save(net.state_dict(), folder / "net.pt")
    made = f"import torch\nfrom torch import nn\n{NETWORKS}\n\ndef given():\n    net = {request.param}()\n"
    (folder / "net.py").write_text(f"{made}    net(torch.rand(2, 3, {SIZE}, {SIZE}))\n    return net\n")
    return folder, net


@pytest.mark.slow
@pytest.mark.parametrize("norm", EPS)
def test_the_official_code_leaves_the_same_images(network, norm, tmp_path, capsys):
    folder, net = network
    words = [*("attack", "--type", "autoattack", "--protocol", "strict", "--norm", norm, "--eps", str(EPS[norm]))]
    words += ["--model", f"{folder / 'net.py'}:given", "--weights", str(folder / "net.pt"), "--data", NAME]
    words += ["--input-size", str(SIZE), "--limit", str(IMAGES), "--samples", "1", "-q"]
    words += ["--set", f"system.runs_dir={tmp_path}", *(["--set", f"system.data_dir={DATA}"] if DATA else [])]
    assert main(words) == 0, capsys.readouterr().err
    (results,) = tmp_path.glob("*/results.json")
    (row,) = json.loads(results.read_text())["attacks"]
    ours = torch.tensor(row["outcomes"]["right"]["majority"]).bool()
    split = images_of("test")
    places = torch.tensor(row["outcomes"]["indices"])
    x, y = split.images[places] / 255, split.labels[places]
    official = pyautoattack.AutoAttack(net, norm={"linf": "Linf", "l2": "L2"}[norm], eps=EPS[norm], seed=0)
    x_adv = official.run_standard_evaluation(x, y, batch_size=IMAGES)
    theirs = net(x_adv[0] if isinstance(x_adv, tuple) else x_adv).argmax(1) == y
    only_ours, only_theirs = int((~ours & theirs).sum()), int((ours & ~theirs).sum())
    listed = [
        f"{int(place)} {'by ours' if their else 'by theirs'}"
        for place, mine, their in zip(places, ours, theirs, strict=True)
        if mine != their
    ]
    with capsys.disabled():
        counts = f"{int(ours.sum())} and {int(theirs.sum())} of {len(ours)} hold out"
        print(f"\n{NAME} {norm}: {counts}; broken by one alone: {', '.join(listed) or 'none'}")
    # Not where all of the images, or none, hold out.
    assert 0.1 < theirs.double().mean() < 0.9
    assert only_ours + only_theirs <= (1 - AGREE) * len(ours), listed
    if only_ours + only_theirs:
        assert binomtest(only_ours, only_ours + only_theirs).pvalue > 0.05
