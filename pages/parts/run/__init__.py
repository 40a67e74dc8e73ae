"""The runs screen: lists, one run, comparisons."""
