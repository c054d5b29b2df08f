#!/usr/bin/env bash
# Everything that is worth knowing about rushkit on a GPU, in one go of at most 8 minutes; what it does stands in
# benchmarks/gpu.py, how to prepare it in docs/performance.md.
#
#   RUSHKIT_DATA=DATA benchmarks/gpu.sh OUT            on a machine with one GPU
#   benchmarks/gpu.sh --smoke OUT                      on a CPU, with tiny settings: at most a minute
#
# It needs no installed rushkit. Wheels that the machine lacks are taken from RUSHKIT_WHEELS, build/wheels where that is not set.
set -euo pipefail
cd "$(dirname "$0")/.."
wheels=${RUSHKIT_WHEELS:-build/wheels}
python=${PYTHON:-python3}

site=
if compgen -G "$wheels/*.whl" >/dev/null; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
fi
PYTHONPATH=$PWD${site:+:$site}${PYTHONPATH:+:$PYTHONPATH} "$python" benchmarks/gpu.py "$@"
