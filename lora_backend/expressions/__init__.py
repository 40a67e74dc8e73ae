"""Regular expressions that users write, matched as `re` does and by a deadline."""
