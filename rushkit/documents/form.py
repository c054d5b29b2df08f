"""How documents hold records."""

from __future__ import annotations

from typing import Literal

# Printed with ``--json``, as a file, or as a file of canonical JSON, whose floats are written in hex.
Form = Literal["printed", "file", "canonical"]
