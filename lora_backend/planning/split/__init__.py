"""Which blocks go to which device: the exact optimum over contiguous splits."""
