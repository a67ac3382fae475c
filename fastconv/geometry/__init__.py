"""Validation and normalisation of arguments: pure Python on ints and NumPy arrays, before any kernel runs."""
