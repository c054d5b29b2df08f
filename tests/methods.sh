#!/usr/bin/env bash
# The recipes of all methods on the digits, for a few epochs, attacked on a few images: minutes on two cores. What one fails
# with ends this.
# Usage: tests/methods.sh PATH_OF_PYTHON
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
OMP_NUM_THREADS=1 "$1" "$root/benchmarks/methods.py" --quick --kept "$work/kept" --work "$work/runs"
