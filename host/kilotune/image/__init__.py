"""The model image (.ktm) as written by the compiler and read by everyone else."""
