"""The lowest version of everything that pyproject.toml names, as constraints for pip: ``python tests/lowest_pins.py``.

Without packages, for a fresh environment: lowest.sh asks it before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest_pins(text: str) -> list[str]:
    """Return ``name==version`` for each requirement of a pyproject.toml: those of the package, its extras, its build.

    Raises:
        ValueError: a requirement has no lower bound.
    """
    project = tomllib.loads(text)
    extras = project["project"].get("optional-dependencies", {})
    listed = [project["project"]["dependencies"], *extras.values(), project["build-system"]["requires"]]
    own = project["project"]["name"]
    pins = set()
    for requirement in (line for lines in listed for line in lines):
        name, bound = re.fullmatch(r"([\w.-]+)(?:\[[^]]*\])?\s*([^;]*)(?:;.*)?", requirement).groups()
        if name == own:
            continue
        lowest = re.search(r">=\s*([\w.]+)", bound)
        if lowest is None:
            raise ValueError(f"{requirement!r} has no lower bound")
        pins.add(f"{name}=={lowest.group(1)}")
    return sorted(pins)


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest_pins(PYPROJECT.read_text())) + "\n")
