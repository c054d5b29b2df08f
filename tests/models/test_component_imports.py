from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["rushkit.models", "rushkit.objectives"])
def test_listing_a_package_of_components_imports_no_torch(package):
    code = f"import sys, {package}; {package}.names(); {package}.entries(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
