"""Everything that the package remembers is bounded: by a number of entries, or by what its keys can be."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc

PACKAGE = Path(fc.__file__).parent

# What caches without a limit may be keyed by: the literals of a kernel, of which there are as many as machine code of
# its kind, whatever the shapes of arrays. A size of an array is none of them.
LITERALS = {
    **dict.fromkeys(("BITS", "bits", "dtype", "code", "stored"), "the element types"),
    **dict.fromkeys(("MR", "NR", "NV", "VL", "R", "MO", "MT", "tile", "skew", "apart"), "the menu of tiles"),
    **dict.fromkeys(("MH", "MW", "RH", "RW", "m", "r", "scheme"), "the transforms of Winograd that the planner knows"),
    **dict.fromkeys(("TAPS", "STEP", "window"), "rows of kernels with machine code of their own, else 0"),
    **dict.fromkeys(("OP", "INDEX", "INDICES", "KIND", "ROLE", "FIRST", "LAST", "ALIKE", "ADD", "LANES"), "flags"),
    "COLUMNS": "a flag; in the gradient of maxima 1 or 2",
    **dict.fromkeys(("low", "high"), "the limits of the activations"),
    **dict.fromkeys(("name", "backend"), "names of functions of the package"),
    **dict.fromkeys(("build", "kernel"), "functions and kernels of the package"),
}
# Dictionaries that are not functools', and the place where each is emptied.
LIMITED = {
    "api/convolve.py": "if len(_seen) >= _SEEN_LIMIT:\n            _seen.clear()",
    "api/separable_job.py": "if len(_seen) >= _SEEN_LIMIT:\n            _seen.clear()",
    "api/pooling.py": "if len(_seen) >= _SEEN_LIMIT:\n            _seen.clear()",
    "dispatch/measure.py": "if len(_fastest) >= _LIMIT:\n                _fastest.clear()",
    # Operators by their types, and those who are told of a new limit.
    "_compiler.py": "_known: dict[Any, Any] = {}",
    "dispatch/workspace.py": "_forget.append(forget)",
    # Who wants to know of namespaces: Numba, once.
    "_namespaces.py": "if listener in _listeners:",
    # Names of the functions that Keras has.
    "integrations/keras/switch.py": "_originals",
}


def functions(tree: ast.Module) -> dict[str, list[str]]:
    """Return the parameters of each function of a module."""
    return {n.name: [a.arg for a in n.args.args] for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}


def unlimited(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the functions that a module remembers all results of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from (node.name for d in node.decorator_list if is_unlimited(d))
        if isinstance(node, ast.Call) and is_unlimited(node.func) and node.args:
            yield node.args[0].id


def is_unlimited(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return name_of(node.func) == "lru_cache" and "maxsize=None" in ast.unparse(node)
    return name_of(node) == "cache"


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


@functools.cache
def texts() -> dict[str, str]:
    return {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}


@functools.cache
def remembering() -> dict[str, ast.Module]:
    """Return the modules that take something from functools, those of the command line excepted."""
    found = {file: text for file, text in texts().items() if re.search(r"import .*cache|functools", text)}
    return {file: ast.parse(text) for file, text in found.items() if not file.startswith("cli/")}


def parameters(name: str, tree: ast.Module) -> list[str]:
    """Return the parameters of a function of a module, or of the one that it imports it from."""
    found = functions(tree)
    if name not in found:
        imports = [n for n in tree.body if isinstance(n, ast.ImportFrom) and name in [alias.name for alias in n.names]]
        file = imports[0].module.removeprefix("fastconv.").replace(".", "/") + ".py"
        found = functions(ast.parse(texts()[file]))
    return found[name]


def test_keys_of_caches_without_a_limit_are_literals_of_kernels():
    found = 0
    for file, tree in remembering().items():
        for name in unlimited(tree):
            found += 1
            unknown = set(parameters(name, tree)) - LITERALS.keys()
            assert not unknown, f"{file}: {name} remembers a result for each {unknown}"
    assert found > 40


def test_caches_of_shapes_have_limits():
    limits = [
        ast.unparse(node)
        for tree in remembering().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and name_of(node.func) == "lru_cache"
    ]
    assert len(limits) > 40
    for text in limits:
        (size,) = (int(word) for word in re.findall("[0-9]+", text))
        assert 1 <= size <= 1024, text


def test_dictionaries_of_modules_are_emptied():
    filled = re.compile(r"^\w+(: [^=]+)? = (\{\}|\[\]|set\(\)|dict\(\)|list\(\))$", re.MULTILINE)
    # Of the kernels, each is in there once.
    found = {file for file, text in texts().items() if filled.search(text) and not file.startswith("kernels/")}
    assert found == LIMITED.keys()
    for file, text in LIMITED.items():
        assert text in texts()[file], file


def entries() -> dict[str, tuple[int, int | None]]:
    """Return (entries, limit) of every cache of functools that the package has filled."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("fastconv."):
            for key, value in list(vars(module).items()):
                if isinstance(value, functools._lru_cache_wrapper):
                    found[f"{name}.{key}"] = (value.cache_info().currsize, value.cache_info().maxsize)
    return found


def test_problems_that_are_met_once_fill_no_cache_without_a_limit():
    w, one = np.ones((2, 2, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32)
    rng = np.random.default_rng(0)

    def use(count: int) -> None:
        for H, W in rng.integers(9, 60, (count, 2)).tolist():
            x = np.ones((1, 2, H, W), np.float32)
            fc.conv2d(x, w)
            fc.conv2d(x[:, :1], one)
            fc.max_pool2d(x, H % 4 + 1)
            fc.interpolate(x, (W, H))
            fc.unfold(x, 2)
            fc.ndimage.maximum_filter(x[0, 0], W % 5 + 1)

    def total() -> int:
        return sum(size for size, limit in entries().values() if limit is None)

    use(8)
    before, modules = total(), len(sys.modules)
    use(14)
    # Now and then another tile is the best one.
    assert total() - before <= 8 + len(sys.modules) - modules
    assert all(size <= limit for size, limit in entries().values() if limit is not None)


@pytest.mark.parametrize("module", ["api.convolve", "api.separable_job", "api.pooling"])
def test_memories_of_arguments_are_emptied(module, monkeypatch):
    found = importlib.import_module(f"fastconv.{module}")
    monkeypatch.setattr(found, "_SEEN_LIMIT", 4)
    found._seen.clear()
    w, p = np.ones((2, 1, 2, 2), np.float32), np.ones((2, 2, 1, 1), np.float32)
    for W in range(4, 15):
        x = np.ones((1, 2, 5, W), np.float32)
        fc.depthwise_conv2d(x, w)
        fc.separable_conv2d(x, w, p)
        fc.max_pool2d(x, 2)
        assert 1 <= len(found._seen) <= 4
