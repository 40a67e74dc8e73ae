"""The rank proof on plain data: names and shapes in, verdict out. Needs no torch."""
