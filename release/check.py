"""Check dist/ in clean environments, one for each interpreter named: install, `pip check`, the demonstration, tests.

The tests are those of the sdist, without its copy of the package, so that what they import is the wheel; then a few run
with that copy. FASTCONV_CACHE_DIR is a new folder: kernels compile as they do for a new user.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
EXTRAS = "demo,lint,nn,test"


class Environment:
    """A new virtual environment, and processes in it."""

    def __init__(self, interpreter: str, folder: Path):
        self.folder = folder
        names = ("PYTHONPATH", "VIRTUAL_ENV", "FASTCONV_DISABLE_CACHE")
        self.variables = {k: v for k, v in os.environ.items() if k not in names}
        self.variables |= {"FASTCONV_CACHE_DIR": str(folder / "cache"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        self.run("venv", interpreter, "-m", "venv", folder / "venv")
        self.bin = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")

    def run(self, title: str, *command: object, where: Path | None = None) -> None:
        """Run a step and print how long it took; raise with its output where it fails."""
        start = time.monotonic()
        words = [str(word) for word in command]
        done = subprocess.run(
            words, cwd=where or self.folder, env=self.variables, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{title} failed: {' '.join(words)}\n{done.stdout}\n{done.stderr}")
        last = done.stdout.strip().splitlines()[-1:] or [""]
        print(f"  {title:<28} {time.monotonic() - start:6.1f} s  {last[0]}", flush=True)

    def python(self, title: str, *words: object, where: Path | None = None) -> None:
        """Run a step by the interpreter of the environment."""
        self.run(title, self.bin / "python", *words, where=where)


def extracted(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist and return its folder."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (found,) = folder.iterdir()
    return found


def check(interpreter: str) -> None:
    """Check the wheel and the sdist with one interpreter."""
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{interpreter}:", flush=True)
        e = Environment(interpreter, folder)
        constraints = ("-c", ROOT / "constraints.txt")
        e.python("install", "-m", "pip", "install", "--quiet", *constraints, f"{wheel}[{EXTRAS}]")
        e.python("pip check", "-m", "pip", "check")
        e.run("fastconv info", e.bin / "fastconv", "info")
        e.run("fastconv demo", e.bin / "fastconv", "demo")
        source, alone = (extracted(sdist, folder / kind) for kind in ("sdist", "tests-only"))
        (alone / "fastconv").rename(folder / "aside")
        where = f"import fastconv; assert fastconv.__file__.startswith({str(folder / 'venv')!r}), fastconv.__file__"
        e.python("the wheel is imported", "-c", where, where=alone)
        e.python("mypy --strict, as a user", "-m", "mypy", "--strict", "tests/typed/sample.py", where=alone)
        pytest = ("-m", "pytest", "-p", "no:cacheprovider")
        e.python("tests of the wheel", *pytest, "-m", "targets", "tests", where=alone)
        few = ("tests/geometry", "tests/test_trust.py", "tests/test_layering.py", "tests/test_readme.py")
        e.python("tests of the sdist", *pytest, "-m", "not slow", *few, where=source)


if __name__ == "__main__":
    for each in sys.argv[1:] or [sys.executable]:
        check(each)
