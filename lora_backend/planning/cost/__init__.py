"""What a training step costs: bytes and seconds of each part, independent of devices."""
