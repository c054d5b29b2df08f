"""A resumed run goes on with what it was started with: a flag that says otherwise is refused, never passed over."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "verb, flag, value",
    [
        ("finetune", "--from", "digits"),
        ("finetune", "--to", "stl10"),
        ("finetune", "--recipe", "digits"),
        ("attack", "--from", "digits"),
        ("attack", "--type", "apgd"),
        ("attack", "--eps", "4/255"),
        ("attack", "--samples", "1,4"),
        ("attack", "--limit", "0"),
        ("attack", "--protocol", "paper"),
        ("audit", "--samples", "4"),
        ("certify", "--radius", "0.1"),
        ("certify", "--from-counts", "RUN"),
    ],
)
def test_a_resume_takes_no_flag_of_a_new_run(fails, verb, flag, value):
    assert (
        f"--resume goes on with what the run was started with; it cannot take {flag}"
        in fails(2, verb, "--resume", flag, value).err
    )
