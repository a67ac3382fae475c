"""The pages of the reference: which public names stand on which, so that none is left out."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from operator import attrgetter
from types import ModuleType

import fastconv as fc

NAMESPACES = ("grad", "signal", "ndimage", "nn", "activations", "viz", "testing")

# Of the names of `fastconv` itself: the modules that define them, and what is on their page.
TOPICS = {
    "convolutions": (
        "Convolutions",
        ("api.conv", "api.conv_nd", "api.conv_transpose", "api.separable", "api.fold"),
    ),
    "pooling": ("Pooling", ("api.pool", "api.lp_pool", "api.adaptive")),
    "upsampling": ("Unpooling and upsampling", ("api.unpool", "api.upsample", "api.resize")),
    "errors": ("Errors", ("errors",)),
}
REST = "planning"


def names() -> dict[str, list[str]]:
    """Return the public names, without that of the package, by page."""
    pages: dict[str, list[str]] = {topic: [] for topic in (*TOPICS, REST, *NAMESPACES)}
    for name in fc.__all__:
        if name in NAMESPACES or name.startswith("__"):
            continue
        module = getattr(fc, name).__module__.removeprefix("fastconv.")
        topics = [topic for topic, (_, modules) in TOPICS.items() if module in modules]
        pages[topics[0] if topics else REST].append(name)
    for namespace in NAMESPACES:
        pages[namespace] = [f"{namespace}.{name}" for name in _of(importlib.import_module(f"fastconv.{namespace}"))]
    return pages


def _of(module: ModuleType) -> Iterable[str]:
    """Yield the names of a namespace; those of a module in it, such as nn.losses, with its name."""
    for name in sorted(module.__all__):
        value = getattr(module, name)
        if not isinstance(value, ModuleType):
            yield name
        elif name != "layers":  # Its names stand in `nn` itself.
            yield from (f"{name}.{inner}" for inner in sorted(value.__all__))


def pages() -> dict[str, str]:
    """Return the Markdown of each page."""
    titles = {topic: title for topic, (title, _) in TOPICS.items()} | {REST: "Plans, costs, threads"}
    return {
        page: "\n".join([f"# {titles.get(page, f'fc.{page}')}", "", *_intro(page), *map(_entry, found)])
        for page, found in names().items()
    }


def _intro(page: str) -> list[str]:
    """Return what the module's docstring says."""
    if page not in NAMESPACES:
        return []
    return [importlib.import_module(f"fastconv.{page}").__doc__ or "", ""]


def _entry(name: str) -> str:
    """Return what mkdocstrings replaces; of a layer, whose methods are those of `Layer`, the class alone."""
    value = attrgetter(name)(fc)
    layer = isinstance(value, type) and issubclass(value, fc.nn.Layer) and value is not fc.nn.Layer
    return f"::: fastconv.{name}\n" + ("    options:\n      members: false\n" if layer else "")
