"""The import contract: api -> geometry -> dispatch -> kernels, and Numba only in the kernels."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastconv"

COMPILERS = ("numba", "llvmlite")
FRONT_ENDS = ("cli", "benchmarks", "integrations", "nn", "viz", "signal", "ndimage", "grad", "testing", "activations")
BY_NAME = ("importlib.import_module", "__import__")


class Rule(NamedTuple):
    """What the modules under `layers` may import. A name stands for the module and all inside it."""

    layers: tuple[str, ...]
    forbidden: tuple[str, ...] = ()
    # Of fastconv, only these; None: all that is not forbidden.
    allowed: tuple[str, ...] | None = None
    except_in: tuple[str, ...] = ()


def within(*names: str) -> tuple[str, ...]:
    """Return the full names of modules of the package."""
    return tuple(f"fastconv.{name}" for name in names)


RULES = {
    "only kernels, _jit, _compiler and Numba's extension import a compiler": Rule(
        ("fastconv",),
        forbidden=COMPILERS,
        except_in=within(
            "kernels", "_jit", "_compiler", "benchmarks.peak", "benchmarks.nopython", "integrations.numba"
        ),
    ),
    "Numba's extension calls by name, and takes types from where calls find them": Rule(
        within("integrations.numba"),
        allowed=within("integrations.numba", "_disk", "_namespaces", "errors", "geometry", "ndimage.arguments"),
    ),
    "what compiled functions call needs no compiler": Rule(
        within("integrations.numba.calls", "integrations.numba.rules"), forbidden=COMPILERS
    ),
    "no layer knows Numba's extension": Rule(
        ("fastconv",), forbidden=within("integrations.numba"), except_in=within("integrations.numba", "benchmarks")
    ),
    "api sees geometry, dispatch and what all layers share": Rule(
        within("api"), forbidden=within("kernels", "_jit", "_compiler", *FRONT_ENDS)
    ),
    "geometry computes on ints and calls nothing": Rule(
        within("geometry"), forbidden=within("api", "dispatch", "kernels", "_jit", "_compiler", *FRONT_ENDS)
    ),
    "dispatch is below api and knows kernels by name": Rule(
        within("dispatch"), forbidden=within("api", "kernels", "_jit", "_compiler", *FRONT_ENDS)
    ),
    "names become modules in dispatch/load.py alone": Rule(
        within("api", "geometry", "dispatch"), forbidden=BY_NAME, except_in=within("dispatch.load")
    ),
    "kernels know no layer above them": Rule(
        within("kernels"),
        allowed=within("kernels", "_jit", "_disk", "errors", "threads", "epilogue", "interrupts", "system", "winograd"),
    ),
    "the reference is NumPy alone": Rule(
        within("kernels.reference"),
        forbidden=(*COMPILERS, "torch"),
        allowed=within("kernels.reference", "errors", "epilogue"),
    ),
    "what all layers share imports none of them": Rule(
        within(
            *("_jit", "_compiler", "_disk", "_namespaces", "errors", "threads", "epilogue", "interrupts", "system"),
            "winograd",
        ),
        forbidden=within("api", "geometry", "dispatch", "kernels", *FRONT_ENDS),
    ),
    "nn stands on the operations and their gradients": Rule(
        within("nn"),
        forbidden=within("kernels", "_jit", "_compiler", "cli", "benchmarks", "integrations", "signal", "ndimage"),
    ),
    "viz draws what nn computes": Rule(within("viz"), allowed=within("viz", "nn", "geometry", "errors")),
    "pictures are on top of all": Rule(
        within("nn", "grad", "signal", "ndimage", "activations", "testing", "integrations"), forbidden=within("viz")
    ),
    "no operation knows nn": Rule(within("grad", "signal", "ndimage", "activations"), forbidden=within("nn")),
    "no module of the package imports the command line": Rule(
        ("fastconv",), forbidden=within("cli"), except_in=within("cli", "__main__")
    ),
}


def name_of(path: Path) -> str:
    """Return the dotted name of a module's file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_under(module: str, names: tuple[str, ...]) -> bool:
    """Tell whether `module` is one of `names` or inside one."""
    return any(module == name or module.startswith(name + ".") for name in names)


def is_type_checking(node: ast.AST) -> bool:
    """Tell whether `node` is `if TYPE_CHECKING:`."""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def executed(node: ast.AST):
    """Yield the nodes below `node`, function bodies included, but not what only a type checker sees."""
    children = node.orelse if is_type_checking(node) else ast.iter_child_nodes(node)
    for child in children:
        yield child
        yield from executed(child)


def imports(module: str, source: str, is_package: bool) -> set[str]:
    """Return the full names that `source`, the text of `module`, imports, and the calls that import by name."""
    found = set()
    for node in executed(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            parent = parts[: len(parts) - node.level + is_package] if node.level else []
            base = [*parent, *([node.module] if node.module else [])]
            # A class counts as inside its module: `fastconv.errors.ShapeError` is under `fastconv.errors`.
            found.update(".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Attribute) and node.attr == "import_module":
            found.add("importlib.import_module")
        elif isinstance(node, ast.Name) and node.id == "__import__":
            found.add("__import__")
    return found


def violations(rule: Rule, module: str, imported: set[str]) -> list[str]:
    """Return the names among `imported` that `rule` does not let `module` have."""
    if not is_under(module, rule.layers) or is_under(module, rule.except_in):
        return []
    wrong = {name for name in imported if is_under(name, rule.forbidden)}
    if rule.allowed is not None:
        wrong |= {name for name in imported if is_under(name, ("fastconv",)) and not is_under(name, rule.allowed)}
    return sorted(wrong)


@pytest.mark.parametrize("title", RULES)
def test_imports_keep_the_contract(title):
    wrong = {}
    for module, path in MODULES.items():
        imported = imports(module, path.read_text(encoding="utf-8"), path.name == "__init__.py")
        if names := violations(RULES[title], module, imported):
            wrong[module] = names
    assert not wrong, f"{title}: {wrong}"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fastconv.api.conv", "from fastconv.kernels.cpu import conv_direct"),
        ("fastconv.api.conv", "def f():\n    import numba.cuda"),
        ("fastconv.api.conv", "from .. import kernels"),
        ("fastconv.geometry.conv", "from fastconv import dispatch"),
        ("fastconv.geometry.conv", "from ..dispatch.choose import choose"),
        ("fastconv.dispatch.choose", "import importlib\nimportlib.import_module('fastconv.kernels.cpu.conv_direct')"),
        ("fastconv.dispatch.choose", "from importlib import import_module"),
        ("fastconv.dispatch.plan", "from fastconv.api.conv import conv2d"),
        ("fastconv.kernels.cpu.conv_direct", "from fastconv.geometry.conv import ConvGeometry"),
        ("fastconv.kernels.cpu.conv_direct", "import fastconv"),
        ("fastconv.kernels.reference.conv", "from fastconv.kernels.cpu import packing"),
        ("fastconv.kernels.reference.conv", "import numba"),
        ("fastconv.threads", "import llvmlite.binding as llvm"),
        ("fastconv.api.conv", "from fastconv.cli.main import main"),
        ("fastconv.nn.optimizers", "from fastconv.kernels.cpu import optimizers"),
        ("fastconv.grad.conv", "from fastconv.nn import layers"),
        ("fastconv.nn.model", "from fastconv import viz"),
        ("fastconv.viz.maps", "from fastconv.api.conv import conv2d"),
        ("fastconv.integrations.torch.operation", "import numba"),
        ("fastconv.integrations.numba.overloads", "from fastconv.api.conv import conv2d"),
        ("fastconv.integrations.numba.calls", "import numba"),
        ("fastconv.signal", "from fastconv.integrations.numba import init"),
    ],
)
def test_contract_finds_a_violation(module, source):
    assert any(violations(rule, module, imports(module, source, False)) for rule in RULES.values())


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fastconv.api.conv", "from fastconv.dispatch.choose import choose\nfrom fastconv.errors import ShapeError"),
        ("fastconv.dispatch.load", "import importlib\nimportlib.import_module(name)"),
        ("fastconv.dispatch.cost", "import importlib.metadata"),
        (
            "fastconv.kernels.cpu.conv_direct",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fastconv.geometry.conv import ConvGeometry",
        ),
        ("fastconv.kernels.cpu.conv_direct", "from fastconv._jit import njit\nfrom fastconv.kernels.cpu import target"),
        ("fastconv.kernels.cpu.target", "import llvmlite.binding as llvm\nfrom numba.core import config"),
    ],
)
def test_contract_lets_right_imports_pass(module, source):
    assert not any(violations(rule, module, imports(module, source, False)) for rule in RULES.values())


# Runs before the package in a fresh process. NumPy is imported first: its own threads are not ours.
PROBE = """
import json, os, sys, threading
import numpy
seen = []
watched = ("os.mkdir", "os.rename", "os.remove", "os.fork", "subprocess.Popen")
def hook(event, args):
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    if event == "open" and isinstance(args[2], int) and args[2] & writes:
        seen.append(f"open {args[0]}")
    elif event in watched or event.startswith("_thread.start"):
        seen.append(f"{event} {args!r}")
sys.addaudithook(hook)
import fastconv
heavy = sorted({"numba", "llvmlite", "scipy", "torch", "matplotlib"} & set(sys.modules))
print(json.dumps({"seen": seen, "heavy": heavy, "threads": threading.active_count()}))
"""


def test_import_is_light_and_without_traces(tmp_path):
    cache = tmp_path / "cache"
    code = f"import os, sys; os.environ['FASTCONV_CACHE_DIR'] = {str(cache)!r}; sys.path.insert(0, {str(ROOT)!r})\n"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code + PROBE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"seen": [], "heavy": [], "threads": 1}
    assert not cache.exists()
