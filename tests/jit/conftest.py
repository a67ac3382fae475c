"""Packages with an empty cache, and with a full one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.jit.package import FORKER, Package


@pytest.fixture(scope="session")
def forker():
    if not hasattr(os, "fork"):
        yield None
        return
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", FORKER], stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def package(tmp_path, forker):
    return Package(tmp_path, forker)


@pytest.fixture(scope="session")
def filled(tmp_path_factory, forker):
    """Return a cache folder in which value(2, 1) to value(2, 6) are compiled, once for all tests."""
    package = Package(tmp_path_factory.mktemp("filled"), forker)
    assert package.run("print(*(value(2, i) for i in range(1, 7)))") == [5, 6, 7, 8, 9, 10, 6]
    return package.cache


@pytest.fixture
def warm(package, filled):
    """Return a package at another place whose cache is filled."""
    shutil.copytree(filled, package.cache)
    return package
