"""The torch process that the dashboard asks: started by `worker_client`, ends when the dashboard does."""
