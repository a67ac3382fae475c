"""Activations of arrays of the device, against the formulas."""

from __future__ import annotations

from functools import partial

import numpy as np

import fastconv as fc
from fastconv.epilogue import ACTIVATIONS
from tests.cuda.runtimes import to_device


def check_activation(name, dtype):
    x = np.array([[-np.inf, -20, -1.5, -0.5, -0.0], [0, 0.5, 2.5, np.nan, np.inf]], dtype)
    with np.errstate(all="ignore"):
        expected = ACTIVATIONS[name](x.astype("f8"))
    given = to_device(x)
    got = getattr(fc.activations, name)(given)
    assert type(got) is type(given)
    accuracy = 2e-3 if dtype == "float16" else 1e-6
    np.testing.assert_allclose(got.copy_to_host(), expected, accuracy, 1e-6)
    assert getattr(fc.activations, name)(given, out=given) is given
    np.testing.assert_array_equal(given.copy_to_host(), got.copy_to_host())


CHECKS = {
    **{f"{name}-float32": partial(check_activation, name, "float32") for name in ACTIVATIONS if name},
    **{f"{name}-float16": partial(check_activation, name, "float16") for name in ("relu6", "gelu")},
}
