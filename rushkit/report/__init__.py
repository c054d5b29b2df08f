"""Reports: results as tables and pages. The package itself can be called: ``rushkit.report(...)`` writes a report."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A package that is a function as well.

    ``rushkit.report`` is the function of the verb, as ``rushkit.attack`` is. It is the name of this package too, and an
    import of any module in it makes the package an attribute of ``rushkit``, in place of whatever had that name. So the
    two are one object, whichever was asked for first.
    """

    def __call__(
        self,
        *runs: str | Path,
        out: str | Path | None = None,
        images: bool = True,
        figures: str | Path | None = None,
        runs_dir: str | None = None,
    ) -> Any:
        """Write a report and return its page; see ``rushkit.report.make.report``."""
        # By name: the package stands below its modules, and what only needs one of them need not load all.
        make = importlib.import_module("rushkit.report.make")
        return make.report(*runs, out=out, images=images, figures=figures, runs_dir=runs_dir)


sys.modules[__name__].__class__ = _Callable
