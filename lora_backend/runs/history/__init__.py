"""What can be told of runs afterwards and beside each other."""
