#!/usr/bin/env bash
# The recipes of all methods on the digits, for a few epochs, attacked on a few images: minutes on two cores. What one fails
# with ends this, and so does a model that is hardly better than chance.
# Usage: tests/methods.sh PATH_OF_PYTHON
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1
"$1" -m rushkit study run "$root/tests/methods.toml" --runs-dir "$work"
"$1" -m rushkit study report "$root/tests/methods.toml" --runs-dir "$work" --format json
"$1" - "$work/studies/methods/report.json" <<'END'
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    report = json.load(file)
clean = next(place for place, quantity in enumerate(report["quantities"]) if quantity["name"] == "clean")
# A tenth is chance.
weak = [line["row"] for line in report["lines"] if line["cells"][clean]["seeds"][0]["low"] <= 0.2]
sys.exit(f"learned nothing: {', '.join(weak)}" if weak else 0)
END
