"""Following a run: everything that depends on the internals of Snakemake and Slurm."""
