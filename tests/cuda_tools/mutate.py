"""Seed bugs into a kernel and see that a judge catches every one: the test of the tests.

Bugs are made on the syntax tree of the kernel's source: each barrier removed, each bound dropped, and replacements of
the source that a test names, such as a wrong stride.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tests.cuda_tools import rebuild
from tests.cuda_tools.ptx_emulator.elements import PTXError


class Mutant(NamedTuple):
    """A kernel with a bug, and what the bug is."""

    name: str
    kernel: Callable


def without_barriers(kernel: Callable) -> list[Mutant]:
    """Return one mutant for each ``cuda.syncthreads()`` that the source has."""
    return _mutants(kernel, _is_barrier, lambda node: ast.Pass(), "barrier removed")


def divergent_barriers(kernel: Callable, condition: str) -> list[Mutant]:
    """Return one mutant for each barrier, which only some threads reach: those of a condition."""
    test = ast.parse(condition, mode="eval").body
    return _mutants(kernel, _is_barrier, lambda node: ast.If(test, [node], []), f"barrier only if {condition}")


def without_bounds(kernel: Callable) -> list[Mutant]:
    """Return one mutant for each ``<`` of a condition, which then always holds: of ``a and b`` each part alone."""
    return _mutants(kernel, _is_bound, lambda node: ast.Constant(True), "bound dropped")


def replaced(kernel: Callable, old: str, new: str, name: str = "") -> Mutant:
    """Return a mutant whose source has `new` for `old`, an expression or statement that occurs exactly once.

    Raises
    ------
    ValueError
        `old` does not occur, or more than once.
    """
    source = rebuild.source_of(kernel)
    if source.count(old) != 1:
        raise ValueError(f"{old!r} occurs {source.count(old)} times in {kernel.__name__}, expected once")
    tree = ast.parse(source.replace(old, new))
    return Mutant(name or f"{old} -> {new}", rebuild.compiled(tree, kernel))


def survivors(mutants: Iterable[Mutant], judge: Callable[[Callable], Any]) -> list[str]:
    """Return the names of the mutants that a judge lets pass.

    Parameters
    ----------
    mutants : iterable of Mutant
    judge : callable
        Raises AssertionError or what the emulator raises if a kernel is wrong; it must let the original pass.
    """
    return [mutant.name for mutant in mutants if not caught(mutant, judge)]


def caught(mutant: Mutant, judge: Callable[[Callable], Any]) -> str:
    """Return what the judge says against a mutant; empty: nothing."""
    try:
        judge(mutant.kernel)
    except (AssertionError, PTXError) as error:
        return str(error) or type(error).__name__
    return ""


class _Change(ast.NodeTransformer):
    """Change the node number `which` of those that are meant."""

    def __init__(self, meant: Callable[[ast.AST], bool], change: Callable[[Any], ast.AST], which: int) -> None:
        self.meant, self.change, self.which = meant, change, which
        self.seen = 0
        self.what = ""

    def visit(self, node: ast.AST) -> ast.AST:
        if not self.meant(node):
            return self.generic_visit(node)
        self.seen += 1
        if self.seen - 1 != self.which:
            return node
        self.what = f"line {node.lineno}: {ast.unparse(node)}"
        return self.change(node)


def _mutants(
    kernel: Callable, meant: Callable[[ast.AST], bool], change: Callable[[Any], ast.AST], name: str
) -> list[Mutant]:
    mutants: list[Mutant] = []
    while True:
        tree = rebuild.tree_of(kernel)
        visitor = _Change(meant, change, len(mutants))
        tree = visitor.visit(tree)
        if not visitor.what:
            return mutants
        mutants.append(Mutant(f"{name}, {visitor.what}", rebuild.compiled(tree, kernel)))


def _is_barrier(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith("cuda.syncthreads(")


def _is_bound(node: ast.AST) -> bool:
    return isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt)
