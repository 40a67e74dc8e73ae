"""The data screen: what a model learns from a data set, row by row."""
