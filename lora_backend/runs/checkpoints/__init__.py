"""Checkpoints and published adapters: whole or not at all, kept, replaced, put back."""
