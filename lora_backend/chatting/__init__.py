"""Answering with a model in memory: token by token, base model and adapters of it in turn."""
