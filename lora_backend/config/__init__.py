"""The training config: its schema, its files, its drafts, its difference from a base, and what is wrong with it."""
