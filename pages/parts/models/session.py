"""Session-state keys of the models screen."""

LOOKED_UP = "models_looked_up"
"""(id, revision, what the hub said of it or why it did not)."""
LOOK_UP = "models_look_up"
"""Set by whoever asks for a look at the hub, until the page has done it."""
LIVE_DOWNLOADS = "models_live_downloads"
"""Ids of the downloads that went on when the page was last drawn."""
