"""Before a run: what is known of model, data and machine; the check over all of it; the launch."""
