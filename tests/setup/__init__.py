"""What `make setup` and the lab do to a machine: bring what is missing, and change nothing else."""
