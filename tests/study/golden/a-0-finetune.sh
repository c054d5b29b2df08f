#!/bin/bash

# Parameters
#SBATCH --account=lab-7
#SBATCH --constraint='a&b'
#SBATCH --cpus-per-task=8
#SBATCH --dependency=afterok:7
#SBATCH --gpus-per-node=a100:2
#SBATCH --job-name=a-0-finetune
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=32GB
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output=RUNS/studies/jobs/368cf81de84c452d/output.txt
#SBATCH --partition=gpu,big
#SBATCH --qos=normal
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --time=2190

# command
export SUBMITIT_EXECUTOR=slurm
exec /venv/bin/python -m rushkit.study.engines.slurm_batch 368cf81de84c452ddba49028c784f066a059b84e69a076817107e1c9fb1b4714 RUNS -m rushkit study work --job 368cf81de84c452ddba49028c784f066a059b84e69a076817107e1c9fb1b4714 --runs RUNS --leash
