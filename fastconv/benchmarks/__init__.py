"""Benchmarks against other libraries: `fastconv bench`."""
