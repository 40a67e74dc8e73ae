"""The verify screen: the rank report and what belongs to it."""
