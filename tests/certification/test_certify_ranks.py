"""Three gloo processes against one: the same counts, whatever the procedure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gloo_ranks import run_ranks
from half_spaces import CPU, DIM, SIGMA, HalfSpace, claim, job_of, records_of

from rushkit.certification.claim import Claim
from rushkit.certification.draws import Job
from rushkit.certification.votes import count_votes
from rushkit.distributed import ranks
from rushkit.errors import NumericsError
from rushkit.noises.split import Split

LEVELS = (100, 130, 140, 150, 190)


def all_counts(folder: Path) -> dict[str, list]:
    """The records of every procedure, without what costs time or depends on the size of a round."""
    split = Split(scale=0.1)
    exhaustive = Claim(split, "l1", DIM, 0.0, "exhaustive", "majority", False, split.num_splits, "splits")
    jobs = {
        "fixed": records_of(job_of(LEVELS, batch=64), claim(450), folder, name="fixed"),
        "splits": records_of(
            Job(HalfSpace(), split, job_of(LEVELS).split, torch.arange(5), 0, 2, 16, CPU), exhaustive, folder, name="s"
        ),
    }
    found = {
        name: [{key: value for key, value in record.items() if key != "seconds"} for record in records]
        for name, records in jobs.items()
    }
    tests = records_of(job_of(LEVELS), claim(3000, "sequential"), folder, radii=[SIGMA], name="tests")
    rights: dict[int, list[int]] = {}
    for record in tests:
        if record["part"] == "round":
            for image, right in zip(record["images"], record["right"], strict=True):
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
        # Rounds of three ranks are longer: what both drew is the same.
        for mine, theirs in zip(found["tests"], expected["tests"], strict=True):
            both = min(len(mine), len(theirs))
            assert mine[:both] == theirs[:both]
