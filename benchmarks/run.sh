#!/usr/bin/env bash
# Every benchmark beside its peers, which come from the package registry into build/peers: tables of ratios, and at the end
# their ranges over three runs, in about ten minutes; RUNS sets another number of runs. Needs `make install`. One thread,
# unless OMP_NUM_THREADS says otherwise; on a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/.."
peers=$PWD/build/peers

if [ ! -d "$peers" ]; then
  # Without what they depend on: most of it is in .venv, and pip would bring a second torch.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target "$peers.new" \
    lightly==1.6.0 lightly_utils hydra-core omegaconf antlr4-python3-runtime==4.9.3 pytorch-lightning lightning_utilities torchmetrics \
    kornia==0.9.0 kornia_rs \
    adversarial-robustness-toolbox==1.20.1 six aenum
  mv "$peers.new" "$peers"
fi

export PYTHONPATH=$peers OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
measure() {
  echo "== $*"
  .venv/bin/python -W ignore "benchmarks/$1.py" "${@:2}"
  echo
}
# The runs go through all of them, so that one busy minute does not fall on all runs of one.
mkdir -p build
export RUSHKIT_TABLES=$PWD/build/tables.jsonl
rm -f "$RUSHKIT_TABLES"
for run in $(seq "${RUNS:-3}"); do
  echo "=== run $run"
  measure views --batch 256 --rounds 6
  measure step --batch 16 --seconds 25
  measure step --batch 256 --seconds 15 --backbone resnet10-small
  measure objectives --batch 16 --seconds 5
  measure objectives --batch 256 --seconds 5 --backbone resnet10-small
  measure attack --images 2 --seconds 10
  measure attack --images 16 --seconds 8 --backbone resnet10-small
  measure votes --rounds 6
  measure votes --rounds 3 --backbone resnet18 --draws 256
done
# Once: nearly all of its figures are exact.
measure certificates
echo "=== $(uname -m), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1), $OMP_NUM_THREADS thread(s), $(date +%F)"
.venv/bin/python benchmarks/ranges.py "$RUSHKIT_TABLES"
