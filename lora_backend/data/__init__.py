"""Data sets: find them, read their rows, name the bad ones."""
