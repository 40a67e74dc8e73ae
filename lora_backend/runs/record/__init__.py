"""What a run's files hold, who writes them, and how a run moves from state to state."""
