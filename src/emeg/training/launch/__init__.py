"""Start training processes: on this machine, under Slurm, on Kubernetes."""
