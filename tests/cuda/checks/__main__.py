"""With NUMBA_ENABLE_CUDASIM=1: ``python -m tests.cuda.checks GROUP [quick]`` runs a group in Numba's simulator.

Prints a JSON dict: "failures" has each check's failure, or null; "kernels" the names of those that were launched.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from typing import Any, ClassVar

from fastconv.kernels.cuda import runtime
from tests.cuda.checks import checks_of
from tests.cuda.runtimes import kernel_name
from tests.cuda_tools import turns


class Recorded(runtime.Simulator):
    """The simulator, with the names of the kernels."""

    names: ClassVar[set[str]] = set()

    def run(self, build: Any, literals: Any, grid: Any, arguments: list, stream: Any) -> None:
        """Run a kernel and note its name."""
        self.names.add(kernel_name(build, literals))
        with turns.taken():
            super().run(build, literals, grid, arguments, stream)


def main(group: str, every: bool) -> None:
    """Print what fails in a group."""
    warnings.simplefilter("error")
    runtime.replace(Recorded())
    failures: dict[str, str | None] = {}
    for name, check in checks_of(group, every=every).items():
        try:
            check()
            failures[name] = None
        except Exception:
            failures[name] = traceback.format_exc()
    print(json.dumps({"failures": failures, "kernels": sorted(Recorded.names)}))


if __name__ == "__main__":
    main(sys.argv[1], "quick" not in sys.argv[2:])
