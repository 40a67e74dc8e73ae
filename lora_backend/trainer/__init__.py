"""The process that trains a run: how it begins, what it writes down of its end, and the two ways to start it."""
