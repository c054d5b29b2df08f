#!/usr/bin/env bash
# The tests with the lowest version of every package that pyproject.toml allows. Warnings are errors where rushkit or its tests
# are warned; those that other packages give each other are theirs, and ignored.
# Usage: tests/lowest.sh FOLDER [PYTEST ARGUMENTS]     the environment is made in FOLDER, or used where it is there; about 6 GB
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
python="$folder/bin/python"
pins=$("${PYTHON:-python3.11}" "$root/tests/lowest_pins.py")
if [ "$pins" != "$(cat "$folder/installed.txt" 2> /dev/null)" ]; then
  # To clear it, it must be an environment.
  if [ -n "$(ls -A "$folder")" ] && [ ! -f "$folder/pyvenv.cfg" ]; then
    echo "error: $folder is neither empty nor an environment" >&2
    exit 1
  fi
  "${PYTHON:-python3.11}" -m venv --clear "$folder"
  echo "$pins" > "$folder/pins.txt"
  "$python" -m pip install --quiet --disable-pip-version-check -c "$folder/pins.txt" --editable "$root[dev]"
  cp "$folder/pins.txt" "$folder/installed.txt"
fi
cd "$root"
ours='rushkit|test_|conftest|__main__'
"$python" -m pytest -p no:cacheprovider -o filterwarnings="error
ignore:::(?!$ours)" "$@"
