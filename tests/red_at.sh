#!/usr/bin/env bash
# Show that tests of a fault are red where the fault was: run them, as they are now, against the package of a revision.
# Usage: tests/red_at.sh REVISION [FILE...]     without files: every tests/**/test_fault_*.py
# Exit code 0 where every test is red there; 1 where one is green, or a file cannot even be collected.
set -euo pipefail
revision=$1
shift
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
if [ $# -eq 0 ]; then mapfile -t files < <(git ls-files ':(glob)tests/**/test_fault_*.py'); else files=("$@"); fi

tree=$(mktemp -d)
trap 'git worktree remove --force "$tree" 2>/dev/null; rm -rf "$tree"' EXIT
git worktree add --quiet --detach "$tree" "$revision"
rm -rf "$tree/tests"
cp -r tests pyproject.toml "$tree"

cd "$tree"
# PYTHONPATH comes before the editable install, in this process and in those that the tests start.
PYTHONPATH=$tree "$root/.venv/bin/python" -m pytest -p no:cacheprovider --tb=no -q -rN \
  --junitxml="$tree/outcome.xml" "${files[@]}" > "$tree/log.txt" 2>&1 || true
"$root/.venv/bin/python" - "$tree/outcome.xml" "$revision" <<'PYTHON' || { tail -n 20 "$tree/log.txt"; exit 1; }
import sys
from collections import Counter
from xml.etree import ElementTree

outcomes, wrong = Counter(), []
for case in ElementTree.parse(sys.argv[1]).iter("testcase"):
    kinds = {child.tag: child.get("message", "") for child in case}
    name = f"{case.get('classname')}::{case.get('name')}"
    if kinds.get("error", "").startswith("collection failure"):
        outcome = "not collected"
    elif "failure" in kinds or "error" in kinds:
        outcome = "red"
    else:
        outcome = "skipped" if "skipped" in kinds else "green"
    outcomes[outcome] += 1
    if outcome in ("green", "not collected"):
        wrong.append(f"{outcome} at {sys.argv[2]}: {name}")
print("\n".join([*wrong, ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())]))
sys.exit(bool(wrong) or not outcomes["red"])
PYTHON
