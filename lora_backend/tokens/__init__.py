"""Rows of data into tokens, with a label on each that is learned; and what was counted on the way."""
