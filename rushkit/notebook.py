"""Whether this process is the kernel of a notebook, and one display there that is updated in place.

IPython is no requirement: it is asked only where it is imported already, as it is in every kernel.
"""

from __future__ import annotations

import sys
from typing import Any


def in_notebook() -> bool:
    """Return whether a front end shows what this process displays; a terminal's IPython has none."""
    shell = _shell()
    return shell is not None and getattr(shell, "kernel", None) is not None


def _shell() -> Any:
    """Return IPython's shell; None where there is none, or where something else has its name."""
    try:
        return sys.modules["IPython"].get_ipython()
    except (KeyError, AttributeError):
        return None


class Display:
    """One display in the output of the cell that runs, whose content changes in place.

    A front end that has gone does not stop the work: after the first failure nothing more is shown.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._failed = False

    def show(self, text: str, html: str) -> None:
        """Show this in place of what is shown.

        Args:
            text: For front ends that show no HTML.
            html: For the others; what comes from elsewhere must be escaped in it.
        """
        if self._failed:
            return
        content = {"text/plain": text, "text/html": html}
        try:
            if self._handle is None:
                display = sys.modules["IPython"].display.display
                self._handle = display(content, raw=True, display_id=True)
            else:
                self._handle.update(content, raw=True)
        except Exception:  # noqa: BLE001 - whatever a front end raises, the work is not to hear of it
            self._failed = True
