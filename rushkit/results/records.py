"""Read and check results.json as a typed record, chosen by its key ``stage``, and write it back byte for byte."""

from __future__ import annotations

import json
import math
from pathlib import Path

from pydantic import ValidationError

from rushkit.errors import DataError
from rushkit.paths import read_file
from rushkit.results.attacks import Attacks
from rushkit.results.auditing import Audit
from rushkit.results.base import Record
from rushkit.results.certification import Certification
from rushkit.results.clustering import Clustering
from rushkit.results.evaluation import Evaluation, Probe
from rushkit.results.imported import Imported
from rushkit.results.selftest import SelfTest
from rushkit.results.training import Finetuning, Pretraining
from rushkit.results.verification import Verification

RESULTS_FILE = "results.json"
# A hundred outcomes of each of a million images take less; what is larger was not written by a stage.
MAX_BYTES = 1 << 28

Results = (
    Pretraining
    | Finetuning
    | Clustering
    | Evaluation
    | Attacks
    | Certification
    | Audit
    | SelfTest
    | Probe
    | Imported
    | Verification
)

_BY_STAGE: dict[str, type[Results]] = {
    "pretrain": Pretraining,
    "finetune": Finetuning,
    "cluster": Clustering,
    "evaluate": Evaluation,
    "attack": Attacks,
    "certify": Certification,
    "audit": Audit,
    "self-test": SelfTest,
    "probe": Probe,
    "import": Imported,
    "verify": Verification,
}


def read(folder: str | Path) -> Results | None:
    """Return the results in a run's folder, or None if it has none.

    Example::

        results = rushkit.results.read("runs/20300101-000000-evaluate-cifar10-0a1b2c")
        if results.stage == "evaluate":
            print(results.accuracy[0].accuracy)

    Raises:
        DataError: results.json cannot be read, or a value in it is missing, ill-typed or out of range.
    """
    path = Path(folder) / RESULTS_FILE
    try:
        return parse(read_file(path, MAX_BYTES)).model_copy(update={"run": str(folder)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is damaged: {error}", "put back the file as it was written, or measure again"
        ) from error


def parse(text: bytes | str) -> Results:
    """Return the text of a results.json as a record.

    Raises:
        ValueError: the text is no JSON object of a known stage, or a value in it is missing, ill-typed or out of range;
            the message names the first such key.
    """
    data = load_json(text)
    stage = data.get("stage") if isinstance(data, dict) else None
    if not isinstance(stage, str) or stage not in _BY_STAGE:
        raise ValueError("it does not name a stage that rushkit has")
    try:
        return _BY_STAGE[stage].model_validate(data)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error


def load_json(text: bytes | str) -> object:
    """Parse a JSON document. Raises ValueError for invalid JSON, NaN, infinities and integers beyond 64 bits."""
    return json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)


def dump(record: Record) -> str:
    """Return the text of a record's file."""
    return json.dumps(record.to_table(), indent=2) + "\n"


def first_problem(error: ValidationError) -> str:
    """Return the first validation error of a record, such as ``"accuracy.0.low: Field required"``."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


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
