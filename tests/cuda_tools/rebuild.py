"""Functions made again from other functions: with other names, or from a changed source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from types import CellType, FunctionType
from typing import Any


def with_values(function: Callable, replacements: Mapping[int, Any]) -> Callable:
    """Return a function whose globals and closure have other values, by the `id` of what they replace."""

    def other(value: Any) -> Any:
        return replacements.get(id(value), value)

    names = {name: other(value) for name, value in function.__globals__.items()}
    cells = function.__closure__
    closure = None if cells is None else tuple(CellType(other(cell.cell_contents)) for cell in cells)
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__, closure)


def renamed(function: Callable, old: str, new: str) -> Callable:
    """Return a function that uses the attribute or global `new` where the original uses `old`."""
    code = function.__code__
    names = tuple(new if name == old else name for name in code.co_names)
    code = code.replace(co_names=names)
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


def tree_of(function: Callable) -> ast.Module:
    """Return the syntax tree of a function's source, without decorators."""
    tree = ast.parse(source_of(function))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    return tree


def source_of(function: Callable) -> str:
    """Return the source of a function, from the left margin."""
    return textwrap.dedent(inspect.getsource(function))


def compiled(tree: ast.Module, like: Callable) -> Callable:
    """Return the function of a tree, with the globals of another one; its closure becomes globals too."""
    names = like.__globals__ | dict(inspect.getclosurevars(like).nonlocals)
    tree = ast.fix_missing_locations(tree)
    # Numba names what it compiles by file and line: those of the original.
    ast.increment_lineno(tree, like.__code__.co_firstlineno - 1)
    exec(compile(tree, like.__code__.co_filename, "exec"), names)
    return names[like.__name__]
