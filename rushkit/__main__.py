"""``python -m rushkit`` and the ``rushkit`` command."""

from __future__ import annotations

import sys

from rushkit.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
