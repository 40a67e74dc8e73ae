"""The screens of the dashboard. Nothing here imports torch, not even indirectly."""
