from __future__ import annotations

import pytest

from rushkit import __version__
from rushkit.errors import UsageError
from rushkit.study.failure import Failure, clear_failure, failure_of, read_failure, write_failure


def test_a_failure_is_read_as_it_was_written(tmp_path):
    failure = failure_of(UsageError("no such data", "fetch it"), 3)
    write_failure(tmp_path, failure)
    assert read_failure(tmp_path) == failure
    assert failure == Failure(
        type="UsageError", message="no such data", hint="fetch it", attempt=3, version=__version__
    )


def test_no_failure_is_none(tmp_path):
    assert read_failure(tmp_path) is None
    assert read_failure(tmp_path / "nowhere") is None


def test_a_failure_that_is_cleared_is_gone(tmp_path):
    write_failure(tmp_path, failure_of(ValueError("x"), 1))
    clear_failure(tmp_path)
    clear_failure(tmp_path)
    assert read_failure(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"type": 1}', '{"type": "a", "message": "b", "more": 1}', "[" * 9999])
def test_a_damaged_file_is_a_failure_all_the_same(tmp_path, text):
    (tmp_path / "failure.json").write_text(text)
    assert read_failure(tmp_path).type == "Unknown"


def test_a_long_message_is_cut():
    assert len(failure_of(ValueError("x" * 10**6), 1).message) < 5000
