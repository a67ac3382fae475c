"""Write constraints.txt: the exact version of everything that the extras test, all and bench bring along now."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = """\
# The versions of everything that the tests ran with; `make constraints` writes this file anew.
# pip install -c constraints.txt "fastconv[all]"
"""


def main() -> None:
    """Let pip resolve the extras, without installing anything."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        options = ("--dry-run", "--ignore-installed", "--quiet", "--report", str(report))
        subprocess.run([sys.executable, "-m", "pip", "install", *options, ".[test,all,bench]"], cwd=ROOT, check=True)
        packages = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    # Without what a build adds to a version, such as +cpu.
    pins = {re.sub(r"[-_.]+", "-", p["name"]).lower(): p["version"].partition("+")[0] for p in packages}
    pins.pop("fastconv")
    lines = [f"{name}=={version}\n" for name, version in sorted(pins.items())]
    (ROOT / "constraints.txt").write_text(HEAD + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
