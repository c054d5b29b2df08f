#!/bin/bash

# Parameters
#SBATCH --account=lab-7
#SBATCH --constraint='a&b'
#SBATCH --cpus-per-task=8
#SBATCH --dependency=afterok:7:8
#SBATCH --gpus-per-node=a100:2
#SBATCH --job-name=all
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=32GB
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output=RUNS/studies/jobs/5ef5ef0364b6939c/output.txt
#SBATCH --partition=gpu,big
#SBATCH --qos=normal
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --time=2190

# command
export SUBMITIT_EXECUTOR=slurm
exec /venv/bin/python -m rushkit.study.engines.slurm_batch 5ef5ef0364b6939c4ca61f34b393f7b368d1be8619647aaf83d5b395919ab629 RUNS -m rushkit study work --job 5ef5ef0364b6939c4ca61f34b393f7b368d1be8619647aaf83d5b395919ab629 --runs RUNS --leash
