"""The engine `slurm`: jobs of a Slurm cluster, one for each run, through the commands of Slurm."""
