"""A pytest plugin that puts a namespace of fastconv in the place of SciPy's before SciPy's own tests are imported."""

import importlib
import json
import os
import sys

from scipy._lib import _array_api

import fastconv as fc

NAME = os.environ.get("SCIPY_NAMESPACE", "signal")
HANDED: list[str] = []


def pytest_configure(config):
    """Replace the functions, and count what is left to SciPy itself."""
    ours, theirs = getattr(fc, NAME), importlib.import_module(f"scipy.{NAME}")
    own = {name: getattr(theirs, name) for name in ours.__all__}

    def ask_scipy(name, *args, **keywords):
        HANDED.append(name)
        return own[name](*args, **keywords)

    for module in [m for key, m in sys.modules.items() if key.startswith(f"fastconv.{NAME}.")]:
        if hasattr(module, "ask_scipy"):
            module.ask_scipy = ask_scipy
    # What SciPy's newer tests know about a function they look up by the function.
    table = getattr(_array_api, "xp_capabilities_table", {})
    for name in ours.__all__:
        function = getattr(ours, name)
        if own[name] in table:
            table[function] = table[own[name]]
        # Its functions call each other by the names of the module that they were defined in.
        for module in (theirs, sys.modules[getattr(own[name], "__module__", theirs.__name__)]):
            setattr(module, name, function)


def pytest_sessionfinish(session, exitstatus):
    """Write which functions were left to SciPy, one entry for each call."""
    with open(os.environ["HANDED_TO_SCIPY"], "w", encoding="utf-8") as file:
        json.dump(HANDED, file)
