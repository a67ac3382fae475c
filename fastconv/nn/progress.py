"""What `fit` shows: a progress bar, or a line for each epoch."""

from __future__ import annotations

import sys
import time
from typing import Any

from fastconv.errors import ArgumentTypeError, OptionError
from fastconv.geometry.arguments import shown

VERBOSE = ("auto", 0, 1, 2)
# Seconds between two changes of the numbers beside a bar.
_PAUSE = 0.2


def level(function: str, verbose: Any) -> int:
    """Return 0, 1 or 2 from the argument `verbose`."""
    rule = f"expected one of {', '.join(map(repr, VERBOSE))}"
    if verbose == "auto":
        return 1 if _is_watched() else 2
    if isinstance(verbose, bool):
        return int(verbose)
    if not isinstance(verbose, (int, str)):
        raise ArgumentTypeError(f"{function}: verbose = {shown(verbose)} is a {type(verbose).__name__}, {rule}")
    if verbose not in VERBOSE:
        raise OptionError(f"{function}: verbose = {shown(verbose)}, {rule}")
    return int(verbose)


def _is_watched() -> bool:
    """Return whether someone sees a bar move: on a terminal, and in a notebook."""
    if "ipykernel" in sys.modules:
        return True
    try:
        return bool(sys.stdout.isatty())
    except (AttributeError, ValueError):
        return False


class Progress:
    """The bar of one epoch, or of one evaluation."""

    def __init__(self, verbose: int, title: str, steps: int):
        self.verbose, self.title, self.steps = verbose, title, steps
        self.start, self.shown, self.done = time.perf_counter(), 0.0, 0
        self.bar: Any = None
        if verbose == 1:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self.bar = tqdm(total=steps, desc=title, unit="batch", file=sys.stdout, mininterval=_PAUSE, leave=True)

    def step(self, loss: float | None = None) -> None:
        """Tell that a batch is done; `loss` is the mean so far, if there is one."""
        self.done += 1
        if self.bar is None:
            return
        now = time.perf_counter()
        if now - self.shown >= _PAUSE:
            self.shown = now
            if loss is not None:
                self.bar.set_postfix_str(f"loss={loss:.4f}", refresh=False)
            self.bar.update(self.done - self.bar.n)

    def close(self, logs: dict[str, float] | None = None) -> None:
        """Show the numbers of the epoch, if it came to its end."""
        if self.bar is not None:
            if logs:
                self.bar.set_postfix_str(", ".join(f"{k}={v:.4f}" for k, v in logs.items()), refresh=False)
            self.bar.update(self.done - self.bar.n)
            self.bar.close()
            self.bar = None
        elif self.verbose and logs is not None:
            seconds = time.perf_counter() - self.start
            pace = f"{seconds:.1f}s, {1000 * seconds / max(self.steps, 1):.2f}ms/batch"
            numbers = "".join(f", {name} {value:.4f}" for name, value in logs.items())
            print(f"{self.title}: {self.steps} batches, {pace}{numbers}", flush=True)
