"""Until every stage returns its record: that of the table which it returns."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from rushkit.results.base import Record

Kind = TypeVar("Kind", bound=Record)


def record_of(results: Any, kind: type[Kind]) -> Kind:
    """The record that results are, or are the table of."""
    if isinstance(results, kind):
        return results
    table = {key: value for key, value in results.items() if key != "run"}
    return kind.model_validate(json.loads(json.dumps(table)))
