"""Links from a page to folders and files beside it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def link_from(folder: Path, target: str | Path) -> str:
    """Return the relative address of a file or folder, for a page that lies in ``folder``.

    It is percent-encoded with its colons, so that no name of a folder is another kind of address.
    """
    return quote(os.path.relpath(target, folder).replace(os.sep, "/"), errors="surrogateescape")
