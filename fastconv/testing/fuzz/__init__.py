"""A fuzzer: draws calls of all operations, compares with the definitions, and shrinks what fails to one line.

``python -m fastconv.testing.fuzz --seconds 60 --seed 0`` runs it, and `run` does from Python.
"""

from fastconv.testing.fuzz.case import Array, Case, parse
from fastconv.testing.fuzz.check import MismatchError, check
from fastconv.testing.fuzz.report import Found, Report
from fastconv.testing.fuzz.running import replay, run

__all__ = ["Array", "Case", "Found", "MismatchError", "Report", "check", "parse", "replay", "run"]
