"""The processes of a run: its supervisor, the queue, the GPU leases, and who starts what has died."""
