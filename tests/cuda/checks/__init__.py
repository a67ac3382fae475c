"""The public API on a device, against the definitions, in groups: what every stand-in for a device has to compute.

Each module has ``CHECKS``, a dict of functions without arguments; one that compares drawn problems of real size has
``LARGE`` too, for what is fast enough for them.
"""

from __future__ import annotations

from tests.cuda.checks import activations, conv, pools, resizing

GROUPS = {module.__name__.rpartition(".")[2]: module for module in (activations, conv, pools, resizing)}
