"""The error for a file that is no artifact, or not a whole one."""

from __future__ import annotations

from typing import Literal

from rushkit.errors import RushkitError

# The check that a broken file fails: its layout, its names and texts, or its kind.
Layout = Literal["RV16", "RV17", "RV18"]


class ArtifactError(RushkitError):
    """A file is no artifact of rushkit, is damaged, or was laid out by somebody else; nothing of it was used.

    Args:
        message: What is wrong with which file.
        hint: What to do about it.
        code: The check that the file fails; see docs/claims.md.
    """

    def __init__(self, message: str, hint: str, code: Layout = "RV16") -> None:
        super().__init__(message, hint)
        self.code = code
