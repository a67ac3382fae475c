from __future__ import annotations

import pytest

from tests.properties.strategies import one_tile


@pytest.fixture(autouse=True, scope="module")
def _one_tile():
    with one_tile():
        yield
