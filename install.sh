#!/usr/bin/env bash
# Install rushkit, editable, with its developers' tools, and say what that takes. `make install` calls it.
# Usage: install.sh FOLDER [PYTHON]
set -euo pipefail
cd "$(dirname "$0")"
folder=$1
asked=${2:-}
# The pins of constraints.txt have been resolved with each of these versions.
oldest=11 newest=13

# Print the version of a Python as 3.MINOR, or why it does not fit. Its own error, of a version manager's stub say, is noise.
look() {
  local version
  command -v "$1" > /dev/null || { echo "not found"; return 1; }
  version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null) || { echo "does not run"; return 1; }
  if [ "${version%%.*}" != 3 ] || [ "${version#*.}" -lt $oldest ]; then
    echo "is Python $version"
    return 1
  fi
  # Some systems package these two apart from Python.
  "$1" -c 'import venv, ensurepip' 2> /dev/null || { echo "has no venv: install python$version-venv"; return 1; }
  if [ -z "$asked" ] && [ "${version#*.}" -gt $newest ]; then
    echo "is Python $version, with which constraints.txt has not been tried"
    return 1
  fi
  echo "$version"
}

candidates=(python3.13 python3.12 python3.11 python3)
if [ -n "$asked" ]; then candidates=("$asked"); fi
chosen="" seen=""
for python in "${candidates[@]}"; do
  if version=$(look "$python"); then
    chosen=$python
    break
  fi
  seen="$seen$python $version; "
done
if [ -z "$chosen" ]; then
  {
    echo "error: no Python fits, which is 3.$oldest to 3.$newest with venv: ${seen%; }"
    echo "hint: install one of them, or name one: make PYTHON=/path/to/python3.$newest"
  } >&2
  exit 1
fi

echo "installing rushkit into $folder, with $chosen (Python $version):"
echo "  the package from this folder, editable, and $(grep -c == constraints.txt) packages at the versions of constraints.txt"
echo "  about 3 GB to download and 6 GB on the disk under Linux, nearly all of it torch and its libraries for GPUs"
echo "  nothing outside of $folder is changed; make clean removes it"
"$chosen" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable ".[dev]"
touch "$folder/installed"
echo "installed; for the command rushkit in this shell: . $folder/bin/activate"
