"""The step's own ways of computing: each gives what the plain way gives, with less work."""
