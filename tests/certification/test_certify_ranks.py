"""Three gloo processes against one: the same counts, whatever the procedure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gloo_ranks import run_ranks
from half_spaces import CPU, DIM, SIGMA, HalfSpace, claim, lines_of, procedure_of, sampler_of

from rushkit.certification.all_splits import AllSplits
from rushkit.certification.claim import Claim
from rushkit.certification.draws import count_votes
from rushkit.distributed import ranks
from rushkit.errors import NumericsError
from rushkit.noises.split import Split

LEVELS = (100, 130, 140, 150, 190)


def all_counts(folder: Path) -> dict[str, list]:
    """The lines of every procedure, without what costs time or depends on the size of a round."""
    split = Split(scale=0.1)
    exhaustive = Claim(split, "l1", DIM, 0.0, "exhaustive", "majority", False, split.num_splits)
    jobs = {
        "fixed": lines_of(sampler_of(LEVELS, batch=64), procedure_of(claim(450)), folder, name="fixed"),
        "splits": lines_of(sampler_of(LEVELS, batch=16, noise=split), AllSplits(exhaustive, 0, split), folder, "s"),
    }
    found = {name: [line.with_changes(seconds=0.0).to_table() for line in lines] for name, lines in jobs.items()}
    tests = lines_of(sampler_of(LEVELS), procedure_of(claim(3000, "sequential"), radii=[SIGMA]), folder, name="tests")
    rights: dict[int, list[int]] = {}
    for line in tests:
        if line.part == "round":
            for image, right in zip(line.images, line.right, strict=True):
                rights.setdefault(image, []).extend(right)
    return found | {"tests": [rights[image] for image in sorted(rights)]}


def count_as_a_rank(folder: Path) -> None:
    own = folder / str(ranks.rank())
    own.mkdir()
    (own / "all.json").write_text(json.dumps(all_counts(own)))
    # A bad logit on one rank stops them all.
    model = HalfSpace(float("nan")) if ranks.rank() == 1 else HalfSpace()
    with pytest.raises(NumericsError):
        count_votes(model, [(0, torch.rand(2, 3, 2, 2))], 1, 2, 8, CPU)


@pytest.mark.slow
def test_ranks_count_as_one_process_does(tmp_path):
    run_ranks(count_as_a_rank, 3, tmp_path)
    (tmp_path / "single").mkdir()
    expected = all_counts(tmp_path / "single")
    for rank in range(3):
        found = json.loads((tmp_path / str(rank) / "all.json").read_text())
        assert found["fixed"] == expected["fixed"]
        assert found["splits"] == expected["splits"]
        # Rounds of three ranks may be longer: the draws of an image are the same.
        assert found["tests"] == expected["tests"]
