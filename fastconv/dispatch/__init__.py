"""Choosing an algorithm: the table of rows, their costs, and the plans that hold what was chosen."""
