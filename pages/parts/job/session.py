"""Session-state keys of the parts that show a job."""

DOWNLOADS_GIVEN_UP = "downloads_given_up"
"""Ids of the downloads that this session cancelled: once they have ended, what is there of them is deleted."""
