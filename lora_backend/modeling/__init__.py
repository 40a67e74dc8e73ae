"""Models in torch: load them, attach adapters, read what is really in them."""
