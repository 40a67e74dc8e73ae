"""What a run will hold on each device, and the best place for every layer. Needs no torch."""
