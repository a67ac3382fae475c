"""Tools for testing code that convolves: the reference, an error bound, one-line problem names, and a fuzzer."""

from fastconv.testing.closeness import assert_close
from fastconv.testing.definition import reference
from fastconv.testing.problems import Problem, problem

__all__ = ["Problem", "assert_close", "problem", "reference"]


def __getattr__(name: str) -> object:
    """Load the fuzzer when it is asked for: it imports every namespace, and SciPy."""
    if name == "fuzz":
        import importlib

        return importlib.import_module("fastconv.testing.fuzz")
    raise AttributeError(f"module 'fastconv.testing' has no attribute {name!r}")
