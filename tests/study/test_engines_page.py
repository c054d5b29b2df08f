from __future__ import annotations

from pathlib import Path

import pytest

from rushkit import registries
from rushkit.registry import factory_parameters

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name, section", [("slurm", "Slurm"), ("ray", "Ray")])
def test_the_page_names_every_option_of_an_engine_and_no_other(name: str, section: str):
    rows = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines()
    listed = [row.split("`")[1] for row in rows if row.startswith("| `")]
    assert listed == list(factory_parameters(registries.engines.get(name)))
