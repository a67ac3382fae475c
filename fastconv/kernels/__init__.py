"""Kernels: `reference` is the NumPy definition of each operation, `cpu` the compiled code."""
