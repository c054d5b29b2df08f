from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from rushkit.errors import NumericsError, RushkitError
from rushkit.files import plain_json, remove_leftovers, write_atomic, write_error, write_json


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a"
    write_atomic(path, [b"old"])

    def chunks():
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, chunks())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_a_clear_error(tmp_path):
    with pytest.raises(RushkitError, match=r"cannot write .*No such file"):
        write_atomic(tmp_path / "none" / "a", [b""])


def test_only_leftovers_are_removed(tmp_path):
    for name in (".a.12.partial", "a.partial", ".b", "c"):
        (tmp_path / name).write_text("")
    assert [path.name for path in remove_leftovers(tmp_path)] == [".a.12.partial"]
    assert sorted(os.listdir(tmp_path)) == [".b", "a.partial", "c"]  # noqa: PTH208


def test_numbers_of_numpy_and_torch_become_json():
    value = {
        "a": np.float64(0.5),
        "b": np.int64(3),
        "c": np.array([1, 2]),
        "d": torch.tensor(2.0),
        "e": (1, None, True, "x"),
        "f": Path("runs"),
        "g": np.bool_(True),
        8: torch.tensor([1, 2]),
    }
    plain = plain_json(value, "results")
    expected = {"a": 0.5, "b": 3, "c": [1, 2], "d": 2.0, "e": [1, None, True, "x"], "f": "runs", "g": True, "8": [1, 2]}
    assert json.loads(json.dumps(plain)) == expected


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float32("nan"), torch.tensor(float("-inf"))])
def test_a_number_that_is_not_finite_is_named_by_its_key(tmp_path, bad):
    with pytest.raises(NumericsError, match=r"results\.json: attacks\[1\]: accuracy is (nan|-?inf)"):
        write_json(tmp_path / "results.json", {"attacks": [{}, {"accuracy": bad}]})
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_json_form_is_named_by_its_key():
    with pytest.raises(TypeError, match="results: model: a object"):
        plain_json({"model": object()}, "results")


def test_the_message_for_a_full_disk_says_how_much_and_where(tmp_path):
    error = write_error(tmp_path / "a", OSError(28, "No space left on device"), 3 * 2**30)
    assert f"no room to write {tmp_path / 'a'}: it takes 3.0 GiB, " in error.message
    assert "are free on its disk (No space left on device)" in error.message
