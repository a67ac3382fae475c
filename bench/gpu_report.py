"""Run on a machine with a GPU: the tests that need one, and the times of GPU, CPU and cuDNN, in one file to send back.

`make gpu-report` makes the environment and runs this; the result is gpu-report.json, and what it says is printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import fastconv as fc
from fastconv.benchmarks.machine import describe
from fastconv.dispatch import cuda

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "gpu-report.json"
SUITES = "headline,batch,image"


def main() -> int:
    """Write the report, and return the exit code: 1 without a device, or if a test or a result is wrong."""
    missing = cuda.missing()
    if missing is not None:
        print(f"there is nothing to report, CUDA is not there: {missing}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        tests = _tests(Path(folder, "tests.xml"))
        times = _times(Path(folder, "times.json"))
    report = {"machine": describe(), "devices": fc.devices()["cuda"], "tests": tests, "times": times}
    TARGET.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"\n{tests['passed']} tests passed, {len(tests['failed'])} failed; please send {TARGET}")
    return 1 if tests["failed"] or times["status"] else 0


def _tests(file: Path) -> dict[str, Any]:
    """Run the tests with the mark gpu, and return how many passed, and the text of each failure."""
    command = ["-m", "pytest", "-q", "-m", "gpu", str(ROOT / "tests" / "gpu"), f"--junitxml={file}"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=False)
    cases = list(ElementTree.parse(file).iter("testcase"))
    failed = {
        f"{case.get('classname')}.{case.get('name')}": "\n".join(
            f"{part.get('message')}\n{part.text}" for part in wrong
        )
        for case in cases
        if (wrong := [*case.findall("failure"), *case.findall("error")])
    }
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {"passed": len(cases) - len(failed) - skipped, "skipped": skipped, "failed": failed}


def _times(file: Path) -> dict[str, Any]:
    """Run the benchmarks on both, and return their records."""
    command = ["-m", "fastconv", "bench", "--device", "cpu,cuda", "--suite", SUITES, "--json", str(file)]
    status = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {"status": status, **found}


if __name__ == "__main__":
    sys.exit(main())
