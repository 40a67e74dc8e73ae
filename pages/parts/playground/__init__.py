"""The Try page: columns that answer the same prompt."""
