"""Models and adapters of a hub: what it offers, what is downloaded from it and lies in its cache, what is pushed to it."""
