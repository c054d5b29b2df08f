#!/usr/bin/env bash
# README's first minutes as they stand, in an empty folder, to the report of a model that comes with rushkit: under five minutes. Usage:
#   PATH=$PWD/.venv/bin:$PATH tests/first_hour.sh
# The commands are those of PATH. No data, no network, none of the user's settings.
set -euo pipefail
readme=$(cd "$(dirname "$0")/.." && pwd)/README.md
lines=$(sed -n '/^<!-- first hour: tests/,/^<!-- first hour: to here/p' "$readme" | grep -v '^<!--\|^```')
report=$(grep -o 'runs/[^ ]*/report\.html' <<< "$lines")
for name in $(compgen -e RUSHKIT_); do unset "$name"; done
export RUSHKIT_OFFLINE=1

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
SECONDS=0
timeout 300 bash -euxc "$lines"
test -s "$report"
test "$(ls)" = runs
echo "from nothing to $report in $SECONDS s"
