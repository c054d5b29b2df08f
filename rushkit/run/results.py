"""results.json, read back: figures of the kind and in the range that rushkit writes, or an error that says where not.

What is missing is the reader's to tell, for every version adds keys; what is there has to make sense.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rushkit.errors import DataError
from rushkit.paths import read_file

# What rounding may add to a mean that is formed again.
_SLACK = 1e-6

Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Number = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=-1)]


def _alike(*columns: list[Any]) -> None:
    lengths = {len(column) for column in columns if column}
    if len(lengths) > 1:
        raise ValueError(f"lists of one value for each image have {' and '.join(map(str, sorted(lengths)))}")


class _Part(BaseModel):
    """Part of the results: every key may be missing, and others may be there."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Rate(_Part):
    """A share of images, under the name that its stage gives it, with its interval."""

    accuracy: Share | None = None
    value: Share | None = None
    low: Share = 0.0
    high: Share = 1.0
    correct: Count | None = None
    count: Count | None = None
    images: Number | None = None
    total: Number | None = None
    clean_accuracy: Share | None = None
    any_failure_accuracy: Share | None = None
    flip_rate: Share | None = None
    samples: Number | None = None
    rule: str = ""
    radius: Size | None = None
    per_class: dict[str, Any] = {}

    @model_validator(mode="after")
    def _agrees(self) -> _Rate:
        share = self.value if self.accuracy is None else self.accuracy
        part = self.count if self.correct is None else self.correct
        whole = self.total if self.images is None else self.images
        if share is not None and not self.low - _SLACK <= share <= self.high + _SLACK:
            raise ValueError("the share lies outside its interval")
        if share is not None and part is not None and whole is not None and abs(part / whole - share) > _SLACK:
            raise ValueError(f"the share is not {part} of {whole}")
        return self


class _Votes(_Part):
    images: list[Count] = []
    labels: list[Count] = []
    chosen: list[Index] = []
    right: dict[str, list[Count]] = {}
    clean_right: dict[str, list[Count]] = {}

    @model_validator(mode="after")
    def _fits(self) -> _Votes:
        _alike(self.images, self.labels, self.chosen, *self.right.values(), *self.clean_right.values())
        return self


class _Asked(_Part):
    """What votes say of adversarial images."""

    images: Number | None = None
    rules: dict[str, _Rate] = {}
    outcomes: _Votes = _Votes()
    votes: Number | None = None
    samples: Number | None = None
    noise: dict[str, Any] = {}
    model: str = ""

    @model_validator(mode="after")
    def _adds_up(self) -> _Asked:
        for rule, right in self.outcomes.right.items():
            share = self.rules[rule].accuracy if rule in self.rules else None
            if self.votes is None or share is None or not right:
                continue
            if max(right) > self.votes or abs(sum(right) / self.votes / len(right) - share) > _SLACK:
                raise ValueError(f"the accuracy under {rule} is not that of the images")
            if self.images not in (None, len(right)):
                raise ValueError(f"there are outcomes of {len(right)} images, not of {self.images}")
        return self


class _Candidate(_Part):
    label: str = ""
    options: dict[str, Any] = {}


class _Deviation(_Part):
    name: str = ""
    weaker: bool = False


class _Attack(_Asked):
    attack: str = ""
    norm: str = ""
    protocol: str = ""
    split: str = ""
    saved: str = ""
    eps: Size = 0.0
    gradient_samples: Number | None = None
    candidates: list[_Candidate] = []
    deviations: list[_Deviation] = []
    contributions: dict[str, Count] = {}
    notes: list[str] = []
    seconds: Size = 0.0
    image_forwards: Count = 0
    image_backwards: Count = 0
    transfer: _Asked | None = None

    @model_validator(mode="after")
    def _is_called_what_it_is(self) -> _Attack:
        if self.protocol == "strict" and any(each.weaker for each in self.deviations):
            raise ValueError("an attack that is weaker than strict is called strict")
        return self


class _Failed(_Part):
    attack: str = ""
    norm: str = ""
    eps: Size = 0.0
    protocol: str = ""
    samples: Number | None = None
    message: str = ""


class _Classified(_Part):
    images: list[Count] = []
    labels: list[Count] = []
    radius: list[Size] = []
    p_lower: list[Share] = []
    p_upper: list[Share] = []
    predicted: list[Index] | dict[str, dict[str, list[Count]]] = []

    @model_validator(mode="after")
    def _fits(self) -> _Classified:
        of_rules = self.predicted.values() if isinstance(self.predicted, dict) else ()
        guesses = [guess for rules in of_rules for guess in rules.values()]
        single = self.predicted if isinstance(self.predicted, list) else []
        _alike(self.images, self.labels, self.radius, self.p_lower, self.p_upper, single, *guesses)
        return self


class _Checked(_Part):
    code: str = ""
    name: str = ""
    status: str = ""
    says: str = ""
    figures: dict[str, Any] = {}


class _Messages(_Part):
    messages: list[str] = []


class _Point(_Part):
    label: str = ""
    value: Size = 0.0
    accuracy: Share = 0.0
    share: list[Share] = []


class _Results(_Part):
    stage: str = ""
    recipe: str = ""
    source: str = ""
    data: str = ""
    noise: dict[str, Any] = {}


class _Evaluate(_Results):
    accuracy: list[_Rate] = []
    outcomes: _Classified = _Classified()


class _Attacks(_Results):
    attacks: list[_Attack] = []
    failed: list[_Failed] = []


class _Certify(_Results):
    norm: str = ""
    mode: str = ""
    alpha: Share = 0.0
    samples: Number | None = None
    images: Number | None = None
    smoothed: _Rate = _Rate()
    abstained: _Rate = _Rate()
    average_radius: Size = 0.0
    reach: Size = 0.0
    certified: list[_Rate] = []
    warnings: list[str] = []
    assumptions: list[str] = []
    covers: str = ""
    checks: _Messages = _Messages()
    outcomes: _Classified = _Classified()


class _Audit(_Results):
    images: Number | None = None
    samples: Number | None = None
    settings: dict[str, Any] = {}
    attacked: list[Count] = []
    checks: list[_Checked] = []
    sweeps: dict[str, list[_Point]] = {}
    attacks: dict[str, _Point] = {}
    loss_curve: list[float] = []


class _Ratio(_Part):
    encoder: str = ""
    points: str = ""
    mean: Size = 0.0
    low: Size = 0.0
    high: Size = 0.0
    images: Number | None = None


class _Probe(_Results):
    images: Number | None = None
    norm: str = ""
    eps: Size = 0.0
    steps: Count = 0
    rows: list[_Ratio] = []
    outcomes: dict[str, list[Size]] = {}


class _Trained(_Results):
    loss: float = 0.0
    knn_accuracy: Share = 0.0


class _Import(_Results):
    makes: str = ""
    parameters: Count = 0
    clean: _Rate | None = None


_STAGES: dict[str, type[_Results]] = {
    "evaluate": _Evaluate,
    "attack": _Attacks,
    "certify": _Certify,
    "audit": _Audit,
    "probe": _Probe,
    "pretrain": _Trained,
    "finetune": _Trained,
    "import": _Import,
}


def read_results(path: Path) -> dict[str, Any] | None:
    """What a results.json holds, or None where there is none.

    Raises:
        DataError: it cannot be read, or a figure in it is of another kind or out of range: names the first.
    """
    try:
        results = json.loads(read_file(path), parse_int=_whole, parse_float=_finite, parse_constant=_finite)
        if not isinstance(results, dict):
            raise ValueError("it is no JSON object")
        _STAGES.get(str(results.get("stage")), _Results).model_validate(results)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    return results


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is damaged: {reason}", "put back the file as it was written, or measure again")


def _whole(text: str) -> int:
    # Seeds of attacks have 63 bits.
    if len(text.removeprefix("-")) > 19:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value
