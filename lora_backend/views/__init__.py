"""What there is to say of a plan, of ranks and of runs: made once, printed by commands and drawn by pages."""
