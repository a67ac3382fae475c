"""Tools for testing code that convolves: the reference, an error bound, one-line problem names, and a fuzzer."""

from fastconv.testing.closeness import assert_close
from fastconv.testing.definition import reference
from fastconv.testing.problems import Problem, problem

__all__ = ["Problem", "assert_close", "problem", "reference"]
