"""Where a training stands, written as a checkpoint and gone on from: nothing in it can hold code that runs."""
