"""Folders of trainings that were not started here: read, never written."""
