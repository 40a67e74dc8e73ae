"""Find a model on this machine, and what its files say of it, without torch."""
