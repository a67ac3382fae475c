"""The `fastconv` command: its arguments, its exit codes, and its errors of one line.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. For a traceback, run `python -X dev -m fastconv ...`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from fastconv.errors import FastconvError

__all__ = ["main"]

FAILED, USAGE, INTERRUPTED = 1, 2, 130

# The extra with the packages that a command needs.
EXTRAS = {"demo": "demo", "bench": "bench", "filter": "image"}


class UsageError(Exception):
    """Arguments that a command does not take."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors have one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        raise UsageError(f"{self.prog}: {message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        By default the arguments of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = run(arguments)
        sys.stdout.flush()
        return status
    except UsageError as error:
        return _complain(str(error), USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return FAILED
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        command = arguments[0] if arguments else ""
        return _complain(f"fastconv {command}: {describe(error, command)}", FAILED)


def run(arguments: list[str]) -> int:
    """Parse the arguments and run the command."""
    # The benchmarks have a parser of their own.
    if arguments[:1] == ["bench"]:
        return bench(arguments[1:])
    try:
        options = parser().parse_args(arguments)
    except SystemExit as done:
        return int(done.code or 0)
    command: Callable[[argparse.Namespace], int] = options.run
    return command(options)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    from fastconv import __version__
    from fastconv.cli import explain, filter

    top = Parser(prog="fastconv", description="Convolutions for NumPy arrays, compiled by Numba.")
    top.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_demo(commands.add_parser("demo", help="filter a photograph by every algorithm, check and time them"))
    info = commands.add_parser("info", help="print versions, devices and the cache folder")
    info.set_defaults(run=_info)
    _add_warmup(commands.add_parser("warmup", help="compile all kernels ahead of time into the cache folder"))
    explain.add_arguments(commands.add_parser("explain", help="print what every algorithm would cost on a problem"))
    filter.add_arguments(commands.add_parser("filter", help="filter an image file by a named kernel"))
    commands.add_parser("bench", add_help=False, help="measure against other libraries (bench --help)")
    return top


def _add_demo(command: argparse.ArgumentParser) -> None:
    command.description = "Filter a photograph by every algorithm that can, check each result against SciPy, time it."
    command.add_argument("image", nargs="?", metavar="IMAGE", help="a picture; by default one that Matplotlib ships")
    command.add_argument(
        "-o", "--output", type=_png, default="fastconv_demo.png", metavar="PNG", help="the sheet (%(default)s)"
    )
    command.add_argument(
        "--size", type=_size, default=1024, metavar="N", help="longest side in pixels, larger is reduced (%(default)s)"
    )
    command.set_defaults(run=_demo)


def _add_warmup(command: argparse.ArgumentParser) -> None:
    command.description = "Compile every kernel that arrays of some dtypes may need; the next time it finds them all."
    command.add_argument(
        "--dtypes", type=_words, default=["float32"], metavar="NAME,...", help="dtypes of arrays (default: float32)"
    )
    command.add_argument(
        "--layouts", type=_words, metavar="NAME,...", help="channels_first, channels_last (default: both)"
    )
    command.set_defaults(run=_warmup)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _png(text: str) -> str:
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"expected a name that ends in .png, got {text!r}")
    return text


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 16:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 16, got {text!r}")
    return int(text)


def _demo(options: argparse.Namespace) -> int:
    from fastconv.cli.demo import demo

    return demo(options.image, options.output, options.size)


def _info(options: argparse.Namespace) -> int:
    from fastconv.cli.info import info

    print(info())
    return 0


def _warmup(options: argparse.Namespace) -> int:
    import fastconv as fc
    from fastconv.cli.info import cache

    done = fc.warmup(options.dtypes, **({"layouts": options.layouts} if options.layouts else {}))
    folder, state = cache()
    print(f"{done.kernels} kernels, {done.compiled} of them compiled now, in {done.seconds:.1f} s")
    print(f"cache folder {folder}, disk caching {state}")
    return 0


def bench(arguments: list[str]) -> int:
    """Run the benchmarks."""
    from fastconv.benchmarks import run as benchmarks

    try:
        return int(benchmarks.main(arguments) or 0)
    except SystemExit as done:
        if done.code is None or isinstance(done.code, int):
            return int(done.code or 0)
        return _complain(str(done.code), FAILED)


def describe(error: Exception, command: str) -> str:
    """Return an error as one line."""
    text = " ".join(str(error).split())
    if isinstance(error, FastconvError):
        return text
    missing = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if missing not in ("", "fastconv") and command in EXTRAS:
        return f'{missing} is missing; pip install "fastconv[{EXTRAS[command]}]"'
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    if isinstance(error, OSError):
        return text
    return f"{type(error).__name__}: {text}"


def _complain(message: str, status: int) -> int:
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)
    return status


def _drop_output() -> None:
    """Send what is still buffered nowhere, else Python complains about the closed pipe when it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
