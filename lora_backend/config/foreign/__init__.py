"""Configs of other tools: what each of their keys means here, read into ours and written from ours.

Nothing is imported here, for a check asks the tables of keys, and an import asks the check.
"""
