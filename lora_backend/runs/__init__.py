"""A run on disk, the process that supervises it, and the list of all runs."""
