"""A call as one line of text: what is drawn, shrunk, printed and read back."""

from __future__ import annotations

import ast
import math
import re
from typing import Any, NamedTuple

from fastconv.errors import FastconvError, OptionError
from fastconv.geometry.conv import conv_geometry
from fastconv.testing.problems import problem

MEMORIES = (
    "plain",
    "fortran",
    "reversed",
    "stepped",
    "sliced",
    "swapped",
    "unaligned",
    "readonly",
    "broadcast",
    "list",
)
DATA = (
    "integers",
    "ones",
    "full",
    "normal",
    "positive",
    "special",
    "extreme",
    "unique",
    "poison",
    "rank1",
    "below",
    "order",
)

# The operations whose arrays and geometry have the one-word notation of the benchmarks.
_WORDS = ("conv1d", "conv2d", "conv3d", "plan_conv2d")
_ARRAY = re.compile(r"(?:(?P<dtype>[A-Za-z_]+[0-9]*(?:\[[a-z]+\])?)\((?P<shape>[0-9,]*)\))?(?P<rest>(?:/[a-z0-9_:]+)*)")
_GEOMETRY = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "layout": "channels_first", "padding_mode": "zeros"}


class Array(NamedTuple):
    """An array argument: ``float32(2,3,8)/stepped/normal`` is stepped memory with normally distributed numbers.

    `memory` is one of `MEMORIES`, or of an `out` also ``over:NAME``: in the memory of another argument. `data` is one
    of `DATA`; ``below:9`` and ``order:9`` are indices, the latter each once.
    """

    dtype: str
    shape: tuple[int, ...]
    memory: str = "plain"
    data: str = "integers"

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}({','.join(map(str, self.shape))}){self.manner}"

    @property
    def manner(self) -> str:
        """Memory and data, as far as they are not the plainest."""
        memory = "" if self.memory == "plain" else f"/{self.memory}"
        return memory + ("" if self.data == "integers" else f"/{self.data}")


class Case(NamedTuple):
    """One call, ``op(**arguments)``, of arrays that `seed` fills, on a number of threads.

    `flaw` names the argument that the call must refuse; with "" it must return what the definition says, or say why it
    does not do that.
    """

    op: str
    arguments: dict[str, Any]
    seed: int = 0
    threads: int = 1
    flaw: str = ""

    @property
    def arrays(self) -> dict[str, Array]:
        """The arguments that are arrays."""
        return {name: value for name, value in self.arguments.items() if isinstance(value, Array)}

    def __str__(self) -> str:
        words, arguments = _as_word(self.op, self.arguments) if self.op in _WORDS else ([], self.arguments)
        words = [self.op, *words, *(f"{name}={_shown(value)}" for name, value in arguments.items())]
        words += [f"seed={self.seed}"] if self.seed else []
        words += [f"threads={self.threads}"] if self.threads != 1 else []
        return " ".join([*words, *([f"flaw={self.flaw}"] if self.flaw else [])])

    def replaced(self, **changes: Any) -> Case:
        """Return the case with some arguments changed; those that become `DROP` are left out."""
        arguments = {name: value for name, value in (self.arguments | changes).items() if value is not DROP}
        return self._replace(arguments=arguments)


class _Drop:
    def __repr__(self) -> str:
        return "DROP"


DROP = _Drop()


def parse(text: str) -> Case:
    """Return the case that a line describes; the inverse of ``str(case)``.

    Raises
    ------
    OptionError
        If it describes none.
    """
    op, *words = text.split()
    arguments: dict[str, Any] = {}
    options: dict[str, Any] = {}
    try:
        for word in words:
            name, equals, value = word.partition("=")
            if not equals:
                arguments |= _from_word(name)
            elif name in ("seed", "threads"):
                options[name] = int(value)
            elif name == "flaw":
                options[name] = value
            else:
                arguments[name] = _read(value, arguments.get(name))
    except (ValueError, SyntaxError) as error:
        raise OptionError(f"parse: text = {text!r}, expected a line that the fuzzer printed: {error}") from error
    return Case(op, arguments, **options)


def _shown(value: Any) -> str:
    if isinstance(value, (Array, _Manner)):
        return str(value)
    # Infinity has no literal; this one is read as infinity.
    return "".join(repr(value).split()).replace("inf", "1e999") if not isinstance(value, str) else repr(value)


def _read(text: str, before: Any) -> Any:
    match = _ARRAY.fullmatch(text)
    if not match or text in ("None", "True", "False"):
        return ast.literal_eval(text)
    words = match["rest"].split("/")[1:]
    memory = next((word for word in words if word in MEMORIES or word.startswith("over:")), "plain")
    data = next((word for word in words if word.partition(":")[0] in DATA), "integers")
    if not match["dtype"]:
        return before._replace(memory=memory, data=data)
    return Array(match["dtype"], tuple(int(n) for n in match["shape"].split(",") if n), memory, data)


class _Manner(str):
    """Memory and data of an array whose shape and dtype are in the word."""

    __slots__ = ()


def _as_word(op: str, arguments: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the notation of what it can say of the arguments, if it can, and the other arguments."""
    x, w = arguments.get("input"), arguments.get("weight")
    if not isinstance(x, Array) or not isinstance(w, Array) or x.dtype != w.dtype:
        return [], arguments
    geometry = {name: value for name, value in arguments.items() if name in _GEOMETRY}
    try:
        g = conv_geometry(op, len(w.shape) - 2, x.shape, w.shape, dtype=x.dtype, **geometry)
        word = g.problem
        said = _from_word(word)
    except FastconvError:
        return [], arguments
    given = _GEOMETRY | geometry | {"input": x._replace(memory="plain", data="integers")}
    given["weight"] = w._replace(memory="plain", data="integers")
    if _GEOMETRY | said != given or list(said) != [name for name in arguments if name in given]:
        return [], arguments
    rest = {name: _Manner(a.manner) for name, a in (("input", x), ("weight", w)) if a.manner}
    return [word], rest | {name: value for name, value in arguments.items() if name not in given}


def _from_word(word: str) -> dict[str, Any]:
    """Return the arguments that a problem's name stands for, in their plainest form, without those by default."""
    p = problem(word)
    found: dict[str, Any] = {"input": Array(p.dtype, p.input_shape), "weight": Array(p.dtype, p.weight_shape)}
    keywords = {name: _plainest(p.keywords[name]) for name in _GEOMETRY if name in p.keywords}
    return found | {name: value for name, value in keywords.items() if value != _GEOMETRY[name]}


def _plainest(value: Any) -> Any:
    """Return a number for a tuple of equal ones, and numbers for pairs of equal ones that are not negative."""
    if isinstance(value, tuple) and isinstance(value[0], tuple):
        if any(before != after or before < 0 for before, after in value):
            return value
        value = tuple(before for before, _ in value)
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value
