"""What each command does; `cli.py` reads the words and calls one of these."""
