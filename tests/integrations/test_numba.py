"""Operations inside the user's own @njit functions: the results, errors and lifetimes of the plain call."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

import fastconv as fc
from fastconv.integrations.numba import calls, rules

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
pytestmark = pytest.mark.usefixtures("numba_extension")
compiled = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="a function in Python calls the plain function")

# The types of their results do not follow from those of their arguments, or they are not for inner loops.
NOT_CALLABLE = {
    "fastconv": {
        *("autotune", "count_ops", "devices", "explain", "fold", "get_max_workspace", "plan_conv2d", "receptive_field"),
        *("separate", "set_max_workspace", "threads", "unfold", "warmup"),
    },
    "fastconv.signal": {"choose_conv_method", "fftconvolve", "oaconvolve"},
}


def drawn(rng, *shape, dtype=np.float32):
    return rng.integers(-8, 8, shape).astype(dtype)


def equal(found, expected):
    if isinstance(expected, tuple):
        return len(found) == len(expected) and all(map(equal, found, expected))
    return (found.dtype, found.shape) == (expected.dtype, expected.shape) and np.array_equal(found, expected)


def convolve(x, weight, bias, stride, padding):
    return fc.conv2d(x, weight, bias, stride, padding, activation="relu", padding_mode="zeros", out_dtype=np.float32)


def pool(x, size, out):
    return fc.max_pool2d(x, size, padding=(1, 1), return_indices=True, out=out)


def caught(x, size):
    try:
        return fc.nearest_unpool2d(x, size)
    except Exception:
        return x


jitted_convolve = numba.njit(nogil=True)(convolve)
jitted_pool = numba.njit(pool)


@pytest.mark.targets
def test_results_are_those_of_the_plain_call():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        N, IC, OC, H, W = rng.integers(1, 6, 5)
        x = drawn(rng, N, IC, H + 2, W + 2)
        arguments = x, drawn(rng, OC, IC, 3, 3), drawn(rng, OC), int(rng.integers(1, 4)), int(rng.integers(0, 3))
        assert equal(jitted_convolve(*arguments), convolve(*arguments))


@compiled
def test_arrays_pass_without_a_copy():
    x = drawn(np.random.default_rng(0), 2, 3, 6, 8)
    out = np.empty((2, 3, 4, 5), np.float32)
    y, indices = jitted_pool(x, 2, out)
    assert y is out
    assert equal((y, indices), pool(x, 2, np.empty_like(out)))
    # The very array that the plain call made, which no one else holds.
    assert indices.flags.owndata
    assert sys.getrefcount(indices) == 2
    before = sys.getrefcount(x)
    for _ in range(50):
        jitted_pool(x, 2, out)
    assert sys.getrefcount(x) == before


@pytest.mark.parametrize(
    ("position", "value"), [(1, np.ones((4, 2, 3, 3), np.float32)), (2, np.ones(3, np.float32)), (3, 0), (4, -1)]
)
def test_errors_are_those_of_the_plain_call(position, value):
    arguments = [np.ones((1, 3, 5, 5), np.float32), np.ones((4, 3, 3, 3), np.float32), np.ones(4, np.float32), 1, 1]
    arguments[position] = value
    with pytest.raises(fc.FastconvError) as plain:
        convolve(*arguments)
    with pytest.raises(fc.FastconvError) as found:
        jitted_convolve(*arguments)
    assert (type(found.value), str(found.value)) == (type(plain.value), str(plain.value))
    assert calls._kept.error is None


@compiled
def test_errors_are_caught_in_compiled_code():
    x = np.ones((1, 1, 2, 2), np.float32)
    function = numba.njit(caught)
    # In a handler of Python's, too, where exceptions are chained.
    for failing in (function, caught):
        try:
            raise KeyError
        except KeyError:
            assert failing(x, 0) is x
    assert function(x, 2).shape == (1, 1, 4, 4)
    with pytest.raises(fc.OptionError, match="scale_factor = 0"):
        numba.njit(lambda x, n: fc.nearest_unpool2d(x, n))(x, 0)


@compiled
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: fc.conv2d(x > 0, x), "conv2d: input has dtype bool, expected an array of numbers"),
        (lambda x: fc.conv2d(x[0, 0], x), "conv2d: input has 2 dimensions, expected 4 or 3"),
        (lambda x: fc.conv2d(x, 2.0), "conv2d: weight is float64, expected an array"),
        (lambda x: fc.conv2d(x, x, x.size), "conv2d: bias is int64, expected an array or None"),
        (lambda x: fc.conv2d(x, x, stride=1.5), "conv2d: stride is float64, expected an int or a tuple of ints"),
        (lambda x: fc.conv2d(x, x, padding=[1, 1]), "conv2d: padding is .*, expected an array, a number, a string"),
        (lambda x: fc.conv2d(x, x, out_dtype="int8"), "conv2d: out_dtype = int8 cannot hold results of arrays of"),
        (lambda x: fc.conv2d(x, x, out=np.zeros(3)), "conv2d: out has dtype float64, expected float32"),
        (
            lambda x: fc.max_pool2d(x, 2, 2, 0, 1, False, False, "channels_last"),
            "max_pool2d: got 8 arguments by position",
        ),
        (lambda x: fc.conv2d(x), "missing a required argument: 'weight'"),
        (
            lambda x: fc.max_pool2d(x, 2, return_indices=x.size > 3),
            "return_indices decides the type of the result, so inside @njit it must be a constant: True or False",
        ),
        (lambda x: fc.fold(x, 2, 2), "Untyped global name|Unknown attribute 'fold'"),
    ],
)
def test_errors_seen_in_types_come_with_the_compilation(call, message):
    with pytest.raises(TypingError, match=message):
        numba.njit(call)(np.ones((1, 1, 2, 2), np.float32))


def test_many_threads_without_the_gil():
    rng = np.random.default_rng(3)
    problems = [(drawn(rng, 1, 3, n, 9), drawn(rng, 4, 3, 3, 3), drawn(rng, 4), 1, n % 3 - 1) for n in range(3, 35)]

    def run(function, problem):
        try:
            return function(*problem)
        except fc.ShapeError as error:
            return str(error)

    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda problem: run(jitted_convolve, problem), problems))
    for y, problem in zip(found, problems, strict=True):
        expected = run(convolve, problem)
        assert y == expected if isinstance(expected, str) else equal(y, expected)


def test_table_names_functions_and_their_arguments():
    for namespace, found in rules.RULES.items():
        for name, rule in found.items():
            function = attrgetter(f"{namespace}.{name}".partition(".")[2])(fc)
            parameters = inspect.signature(function).parameters
            required = {each.name for each in parameters.values() if each.default is each.empty}
            assert set(rule.decides) <= set(parameters), name
            if rule.arrays:
                assert rule.arrays[0] in required, name
                assert not rule.out or rule.out in parameters, name
                assert set(rule.arrays) & set(parameters) >= set(rule.arrays) - {"footprint", "weights"}, name


def test_table_has_every_operation():
    for namespace, found in rules.RULES.items():
        module = importlib.import_module(namespace)
        public = {name for name in module.__all__ if inspect.isfunction(getattr(module, name))}
        assert public - set(found) == NOT_CALLABLE.get(namespace, set())


def test_result_of_another_version_is_refused():
    call = calls.bound("numpy:zeros", 1, ("dtype",), (), (np.dtype(np.float32), 2))
    assert call((2, 3), "float32").shape == (2, 3)
    for shape, dtype in ((2, np.float32), ((2, 3), np.float64)):
        with pytest.raises(fc.UnsupportedError, match=r"numpy.zeros made float\d\d of \d dimensions for a"):
            call(shape, dtype)


# A function that Numba keeps on disk, in other processes, which nothing but the entry point told about fastconv.

USER = """
import numpy as np, numba
import fastconv as fc

@numba.njit(cache=True)
def larger(x):
    return fc.nearest_unpool2d(x, 2)
"""
PROGRAM = """
import json, sys
import numpy as np
import fastconv as fc, user
if sys.argv[1:]:
    fc.nearest_unpool2d = lambda x, scale_factor: np.full((1, 1, 1, 1), scale_factor, x.dtype)
found = []
for shape in ((1, 1, 2, 2), (1, 2, 2)):
    try:
        found.append(user.larger(np.arange(4, dtype=np.float32).reshape(shape)).tolist())
    except fc.UnsupportedError as error:
        found.append(str(error))
print(json.dumps([*found, sum(user.larger.stats.cache_hits.values())]))
"""


def installed(folder):
    """Write what an installer writes of the package, and return the environment of processes that find both."""
    entry_points = SETTINGS["project"]["entry-points"]
    info = folder / "fastconv-0.1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: fastconv\nVersion: 0.1.0\n", encoding="utf-8")
    lines = (f"[{group}]\n{name} = {value}\n" for group, found in entry_points.items() for name, value in found.items())
    info.joinpath("entry_points.txt").write_text("".join(lines), encoding="utf-8")
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "NUMBA_CACHE_DIR": str(folder / "kept")}


@compiled
def test_function_kept_on_disk_calls_what_is_installed(tmp_path):
    environment = installed(tmp_path)
    tmp_path.joinpath("user.py").write_text(USER, encoding="utf-8")

    def run(*arguments):
        command = [sys.executable, "-c", PROGRAM, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    expected = np.arange(4.0).reshape(1, 2, 2).repeat(2, 1).repeat(2, 2).tolist()
    assert run() == [[expected], expected, 0]
    *found, hits = run("another version")
    assert hits == 2
    assert found[0] == [[[[2.0]]]]
    assert found[1].startswith("fastconv.nearest_unpool2d made float32 of 4 dimensions for a function compiled for (")
