"""Clusters that run a training elsewhere: Slurm through submitit, and Ray Jobs by their HTTP API."""
