#!/usr/bin/env bash
# A study on a real Slurm of one node, and a job over its time limit that is requeued. Ten minutes and more; as root on Debian:
#   apt-get install --no-install-recommends slurmctld slurmd slurm-client munge     (what slurm-wlm brings, without its documentation)
#   PATH=$PWD/.venv/bin:$PATH tests/slurm.sh
# The commands of rushkit are those of PATH. Everything is on 127.0.0.1, lies in a temporary folder, and ends with this script.
set -euo pipefail
for name in $(compgen -e RUSHKIT_) $(compgen -e SLURM_) $(compgen -e SBATCH_); do unset "$name"; done
export RUSHKIT_OFFLINE=1 OMP_NUM_THREADS=1
folder=$(mktemp -d)
runs=$folder/runs
host=$(hostname -s)

stop() {
    scancel --quiet --me || true
    for daemon in slurmd slurmctld munged; do
        if [ -s "$folder/$daemon.pid" ]; then kill "$(cat "$folder/$daemon.pid")" || true; fi
    done
    if [ -z "${KEEP:-}" ]; then rm -rf "$folder"; else echo "kept: $folder"; fi
}
trap stop EXIT

install -d "$folder/state" "$folder/spool"
cat > "$folder/slurm.conf" << END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=10
OverTimeLimit=0
MinJobAge=3600
JobRequeue=1
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=$(free --mebi | awk '/^Mem:/ {print int($2 / 2)}') State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$folder/slurm.conf
if ! munge -n < /dev/null > /dev/null 2>&1; then
    install -d -o munge -g munge /run/munge
    su -s /bin/sh munge -c munged
    cp /run/munge/munged.pid "$folder/munged.pid"
fi
slurmctld -c -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF"
timeout 60 bash -c 'until sinfo --noheader --states=idle | grep -q .; do sleep 1; done'
if ss -ltnp | grep -E '"slurm(ctld|d)"' | grep -vF '127.0.0.1:'; then
    echo "Slurm listens beyond 127.0.0.1"
    exit 1
fi

echo "== the digits study"
SECONDS=0
rushkit study run digits --engine slurm --runs-dir "$runs"
echo "the digits study: $SECONDS s, $(find "$runs" -name results.json | wc -l) jobs done"
SECONDS=0
rushkit study run digits --engine slurm --runs-dir "$runs"
echo "again, with nothing left to do: $SECONDS s"

echo "== a training over its limit of three minutes, and what needs it"
cat > "$folder/long.toml" << END
schema = 1
title = "One training that takes longer than its limit"
[[stage]]
do = "pretrain"
[[stage]]
do = "finetune"
[[stage]]
do = "evaluate"
samples = [1]
[[row]]
label = "long"
recipe = "digits"
set = { "pretrain.epochs" = ${EPOCHS:-100}, "pretrain.knn.every" = 0, "finetune.epochs" = 1 }
[engine.slurm]
time = 3
cpus = 1
END
SECONDS=0
rushkit study run "$folder/long.toml" --engine slurm --runs-dir "$runs"
mark=$(find "$runs/studies/jobs" -name out_of_time.json)
[ -n "$mark" ] || { echo "the training was done before its time was over: set EPOCHS to more"; exit 1; }
number=$(grep -o '"slurm_job": "[0-9]*"' "$mark" | tr -cd 0-9)
echo "the long study: $SECONDS s; its training was requeued $(scontrol show job "$number" | grep -o 'Restarts=[0-9]*')"

echo "== the same without Slurm"
# In a folder of the same name: a checkpoint has its recipe in it, and that says where runs are.
mv "$runs" "$folder/slurm"
rushkit study run "$folder/long.toml" --runs-dir "$runs"
for plain in "$runs"/job-*/checkpoints/last; do
    job=${plain#"$runs/"}
    cmp "$(dirname "$plain")/$(cat "$plain")" "$folder/slurm/$(dirname "$job")/$(cat "$folder/slurm/$job")"
done
echo "the checkpoints are the same, byte for byte"
echo "$(date --utc +%F): $(sinfo --version), $(rushkit --version), $(nproc --all) cores"
