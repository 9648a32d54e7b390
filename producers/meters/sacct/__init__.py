"""Energy of Slurm's jobs, from its accounting."""
