"""The config screen: a draft and all that can be done with it."""
