#!/bin/bash

# Parameters
#SBATCH --account=lab-7
#SBATCH --constraint='a&b'
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=a100:2
#SBATCH --job-name=a-0-pretrain
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=32GB
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output=RUNS/studies/jobs/eb4cd960732b716f/output.txt
#SBATCH --partition=gpu,big
#SBATCH --qos=normal
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --time=2190

# command
export SUBMITIT_EXECUTOR=slurm
exec /venv/bin/python -m rushkit.study.engines.slurm_batch eb4cd960732b716ffc6074687c0a1abb820d6d98a393bbdbe8a48763bf328b15 RUNS -m rushkit study work --job eb4cd960732b716ffc6074687c0a1abb820d6d98a393bbdbe8a48763bf328b15 --runs RUNS --leash
