"""What this machine has: GPUs through NVML, cores, memory, disk."""
