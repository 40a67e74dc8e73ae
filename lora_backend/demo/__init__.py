"""The demo: a small real model, the help desk of an invented product to teach it, and what it promises to learn."""
