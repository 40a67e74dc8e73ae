"""A job on the screen: its progress, its log, and what came of it."""
