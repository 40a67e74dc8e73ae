"""The parts of `benchmarks.gpu`: what is trained, what is measured, and how it is told."""
