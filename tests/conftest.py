"""What holds for all tests."""

from __future__ import annotations

import pytest

from fastconv.dispatch import wisdom
from tests import tiles


def pytest_configure(config):
    """Without the slow tests, few tiles are enough."""
    if config.option.markexpr.startswith(("not slow", "targets")):
        tiles.know_few()


@pytest.fixture(scope="session", autouse=True)
def _no_wisdom():
    """Keep what a test measures from deciding what another one's "auto" chooses."""
    before, wisdom.LIMIT = wisdom.LIMIT, 0
    yield
    wisdom.LIMIT = before


@pytest.fixture(scope="session")
def numba_extension():
    """Do what the entry point of the package does, which a copy of the sources does not have."""
    from fastconv.integrations.numba import init

    init()
