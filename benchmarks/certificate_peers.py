"""The certificates of rs4a and of RS_conf_seq, loaded from copies that the user has: nothing of them is kept here.

    git clone https://github.com/tonyduan/rs4a
    git clone https://github.com/vvoracek/RS_conf_seq

Their modules get names of their own, and nothing is put on the path, so neither sees the other or rushkit.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import time
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from sequential_exact import Boundaries

from rushkit.errors import UsageError

Floats = NDArray[np.float64]

# Default grid of rs4a's table for Laplace noise in l-inf: normal quantiles up to 3.
STEP, LAST = 0.001, 3.0
# Cells of that table that are timed, and how many it has.
TIMED, CELLS = 20, 3000
# Coarser points that keep its quadrature from crossing hundreds of kinks at once.
COARSE = 0.25


class Rs4a:
    """Noises of rs4a (Yang et al. 2020), with λ = b = 1.

    Args:
        folder: A copy of the repository.

    Raises:
        UsageError: the folder is none, or lacks a module that it needs.
    """

    def __init__(self, folder: Path) -> None:
        self._noises = _module("rs4a_noises", folder / "src" / "noises" / "__init__.py", "rs4a", "tonyduan/rs4a")
        self._utils = sys.modules["rs4a_noises.utils"]
        self._grid = np.append(0.5, norm.cdf(np.arange(STEP, LAST + STEP, STEP)))

    def radius(self, noise: str, norm_name: str, p: float, dim: int, dtype: torch.dtype = torch.float64) -> float:
        """Return a radius by its closed forms, its own choice for the norm."""
        return float(self.radii(noise, norm_name, torch.tensor([p], dtype=dtype), dim)[0])

    def radii(self, noise: str, norm_name: str, p: torch.Tensor, dim: int) -> torch.Tensor:
        """Return radii by its closed forms: (n,) probabilities -> (n,)."""
        kind = getattr(self._noises, noise.capitalize())(dim, lambd=1.0)
        with _quiet():
            result: torch.Tensor = getattr(kind, f"certify_{norm_name}")(p)
        return result

    def laplace_linf(self, p: float, dim: int) -> float:
        """Return what the table of its sound mode, ``integrate``, gives on its default grid.

        Only the cell of the table that the look-up reads is computed: the 3000 take minutes. rs4a extrapolates by the
        slope of the cell below, and beyond Φ(3) by that of the last one.
        """
        place = int(np.searchsorted(self._grid, p, "right")) - 1
        cell = self._grid[max(place - 1, 0) : place + 1]
        coarse = norm.cdf(np.arange(COARSE, LAST, COARSE))
        points = np.union1d(coarse[coarse < cell[0]], cell[cell > 0.5])
        rho, radii = self._table(dim, points)
        looked_up = self._utils.get_radii_from_convex_table(rho, radii, torch.tensor([p], dtype=torch.float64))
        return float(looked_up[0])

    def look_up(self, p: torch.Tensor) -> torch.Tensor:
        """Look radii up in a table of the default size, whose entries do not matter to the time that it takes."""
        result: torch.Tensor = self._utils.get_radii_from_convex_table(self._grid, self._grid, p)
        return result

    def table_ms(self, dim: int) -> float:
        """Return the milliseconds of processor time of its whole table, from the first cells of it."""
        points = norm.cdf(np.arange(1, TIMED + 1) * STEP)
        started = time.process_time()
        self._table(dim, points)
        return 1000.0 * (time.process_time() - started) * CELLS / TIMED

    def _table(self, dim: int, points: Floats) -> tuple[Floats, Floats]:
        kind = self._noises.Laplace(dim, lambd=1.0)
        with _quiet():
            rho, radii = self._utils.diffmethod_table(
                kind.Phi_linf, inc=1, grid_type="radius", upper=len(points) - 1, f=lambda _: points
            )
        return rho, radii


class ConfSeq:
    """Confidence sequences of RS_conf_seq (Voráček 2024).

    Args:
        folder: A copy of the repository.

    Raises:
        UsageError: the folder is none, or lacks a module that it needs.
    """

    def __init__(self, folder: Path) -> None:
        with _stand_in("statsmodels.stats.proportion", "proportion_confint"):
            self._thresholds = _module(
                "conf_seq_thresholds", folder / "thresholds.py", "RS_conf_seq", "vvoracek/RS_conf_seq"
            )

    def boundaries(self, p0: float, alpha: float, longest: int) -> Boundaries:
        """Return where its betting test of p > p0 stops, which looks after every draw.

        Args:
            p0: The probability to be exceeded.
            alpha: As its function takes it.
            longest: The last look.
        """
        below, above = self._thresholds.get_thresholds(p=p0, alpha=alpha, n=longest + 1)
        looks = np.arange(1, longest + 1)
        certify = np.minimum(np.array(above)[1:], looks + 1)
        return Boundaries(looks, certify[None], np.maximum(np.array(below)[1:], -1)[None])


def _module(name: str, file: Path, peer: str, repository: str) -> types.ModuleType:
    """Load a file, or a package by its ``__init__.py``, under a name of our own."""
    if not file.is_file():
        raise UsageError(f"{file.parent} is no copy of {peer}: {file.name} is missing", f"github.com/{repository}")
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=[str(file.parent)] if file.name == "__init__.py" else None
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError, OSError) as error:
        del sys.modules[name]
        raise UsageError(f"{peer} cannot be loaded: {error}", "install what it needs, or leave it out") from error
    return module


@contextlib.contextmanager
def _stand_in(name: str, attribute: str) -> Iterator[None]:
    """Let a module that is only imported and not used be missing."""
    if importlib.util.find_spec(name.partition(".")[0]) is not None:
        yield
        return
    parts = name.split(".")
    names = [".".join(parts[: count + 1]) for count in range(len(parts))]
    for each in names:
        sys.modules[each] = types.ModuleType(each)
    setattr(sys.modules[name], attribute, None)
    try:
        yield
    finally:
        for each in names:
            del sys.modules[each]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def peers_of(rs4a: Path | None, conf_seq: Path | None) -> tuple[Rs4a | None, ConfSeq | None]:
    """Load the peers whose folders were named."""
    return Rs4a(rs4a) if rs4a else None, ConfSeq(conf_seq) if conf_seq else None
