"""A pytest plugin that puts fastconv.signal in the place of SciPy's functions before SciPy's own tests are imported."""

import json
import os

import scipy.signal
from scipy._lib import _array_api

import fastconv as fc

HANDED: list[str] = []


def pytest_configure(config):
    """Replace the functions, and count what is left to SciPy itself."""
    from fastconv.signal import arrays, images, others

    own = {name: getattr(scipy.signal, name) for name in fc.signal.__all__}

    def ask_scipy(name, *args, **keywords):
        HANDED.append(name)
        return own[name](*args, **keywords)

    for module in (others, arrays, images):
        module.ask_scipy = ask_scipy
    # What SciPy's newer tests know about a function they look up by the function.
    table = getattr(_array_api, "xp_capabilities_table", {})
    for name in fc.signal.__all__:
        function = getattr(fc.signal, name)
        if own[name] in table:
            table[function] = table[own[name]]
        setattr(scipy.signal, name, function)


def pytest_sessionfinish(session, exitstatus):
    """Write which functions were left to SciPy, one entry for each call."""
    with open(os.environ["HANDED_TO_SCIPY"], "w", encoding="utf-8") as file:
        json.dump(HANDED, file)
