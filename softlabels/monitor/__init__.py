"""Following a run: all that knows the insides of Snakemake and Slurm."""
