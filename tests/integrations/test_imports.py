from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(code):
    """Return what a fresh process prints, or how it fails."""
    command = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False, timeout=120)


def test_integrations_import_no_framework():
    done = run("import fastconv.integrations; print(sorted({'torch', 'keras', 'dask', 'numba'} & set(sys.modules)))")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(("name", "package"), [("torch", "PyTorch"), ("keras", "Keras 3"), ("dask", "dask")])
def test_missing_framework_is_one_line(name, package):
    lines = (
        f"sys.modules['{name}'] = None\ntry:\n import fastconv.integrations.{name}\nexcept ImportError as e:\n print(e)"
    )
    done = run("\n" + lines)
    assert done.stdout.startswith(f"fastconv.integrations.{name} needs {package}, which cannot be imported"), done
    assert done.stdout.count("\n") == 1
