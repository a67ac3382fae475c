"""Make what is released, in dist/: the sdist, the wheel built from it, and a list of what comes with it (an SBOM).

The SBOM, CycloneDX in JSON, has the packages that `pip install` brings along, in the versions of constraints.txt.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"


def run(*command: object) -> None:
    """Run a command in the root of the repository."""
    subprocess.run([str(word) for word in command], cwd=ROOT, check=True)


def python_of(environment: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def main() -> None:
    """Write the three files."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, ".")
    (wheel,) = DIST.glob("*.whl")
    bom = DIST / f"{'-'.join(wheel.name.split('-')[:2])}.cdx.json"
    with tempfile.TemporaryDirectory() as folder:
        # Without pip, which nobody gets with the package.
        venv.create(folder, with_pip=False, symlinks=True)
        python = python_of(Path(folder))
        run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "-c", "constraints.txt", wheel)
        options = ("--pyproject", "pyproject.toml", "--mc-type", "library", "--output-reproducible", "--validate")
        run(sys.executable, "-m", "cyclonedx_py", "environment", *options, "-o", bom, python)
    # The version stands in the package, where the tool does not look.
    found = json.loads(bom.read_text(encoding="utf-8"))
    found["metadata"]["component"]["version"] = wheel.name.split("-")[1]
    bom.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for path in sorted(DIST.iterdir()):
        print(f"{path.name}: {path.stat().st_size} bytes")
    print("with", ", ".join(f"{part['name']} {part['version']}" for part in found["components"]))


if __name__ == "__main__":
    main()
