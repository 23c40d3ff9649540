"""Ask Slurm, through its own commands, each with a time limit."""
