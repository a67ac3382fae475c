"""Each test of the thread pool leaves the number of threads as it was."""

from __future__ import annotations

import pytest

from tests.threads.pool import pool


@pytest.fixture(autouse=True)
def restored():
    count, default = pool._count, pool._default
    yield
    pool._count, pool._default = count, default
