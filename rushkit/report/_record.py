"""Until rushkit.results is there: attribute access to the dictionaries of results.json."""

# mypy: ignore-errors
from __future__ import annotations

from typing import Any

_PLAIN = {
    "noise",
    "contributions",
    "predicted",
    "right",
    "clean_right",
    "quantiles",
    "options",
    "per_class",
    "figures",
    "imported",
    "backbone",
}
_MAPS = {"rules", "sweeps"}


class Record:
    def __init__(self, data: dict[str, Any]) -> None:
        self.__dict__["data_"] = data

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        if key == "says" or key == "text":
            return self.data_.get("text", self.data_.get("says"))
        value = self.data_.get(key)
        if key in _PLAIN or (key == "outcomes" and self.data_.get("stage") == "probe"):
            return value
        if isinstance(value, dict) and (key in _MAPS or (key == "attacks")):
            return {name: _wrap(each) for name, each in value.items()}
        return _wrap(value)

    def model_dump(self, exclude=frozenset(), **_: Any) -> dict[str, Any]:
        return {key: value for key, value in self.data_.items() if key not in exclude}


def _wrap(value):
    if isinstance(value, dict):
        return Record(value)
    return [_wrap(each) for each in value] if isinstance(value, list) else value


def record_of(results):
    return Record(results) if isinstance(results, dict) else results
