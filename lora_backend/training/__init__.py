"""Training: text into tokens, the trainer, what it writes into the run, and the answers at the end."""
