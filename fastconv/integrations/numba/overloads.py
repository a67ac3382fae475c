"""The types of calls, and the nopython functions that stand for them."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from numba import types
from numba.core.errors import TypingError
from numba.core.registry import cpu_target
from numba.extending import overload
from numba.np.numpy_support import as_dtype, from_dtype

from fastconv._disk import hashed
from fastconv.integrations.numba import calls
from fastconv.integrations.numba.boundary import caller
from fastconv.integrations.numba.calls import Call
from fastconv.integrations.numba.rules import RULES, Form, Given, Later, Result, Rule, Same

# Arguments that are ints or tuples of ints, wherever they stand.
_INTEGERS: Final = frozenset(
    ("stride", "padding", "dilation", "groups", "kernel_size", "output_padding", "output_size", "divisor_override")
)
_VALUES: Final = (types.Number, types.Boolean, types.UnicodeType, types.StringLiteral, types.NoneType)
_SOURCE: Final = """
def {name}({parameters}):
    failed, result = call(({values}))
    if failed:
        raise CallError
    return result
"""


def register(namespace: str) -> None:
    """Register the functions of an imported namespace with Numba."""
    module = sys.modules[namespace]
    for name, rule in RULES.get(namespace, {}).items():
        function = getattr(module, name)
        # The same function may have two names.
        if function.__name__ == name:
            prefix = namespace.removeprefix("fastconv").removeprefix(".")
            _Overload(f"{prefix}.{name}".removeprefix("."), f"{namespace}:{name}", function, rule).register()


def register_late(namespace: str) -> None:
    """Register the functions of a namespace that is imported after `init`."""
    register(namespace)
    # Numba looks for news at the start of a compilation, but `fc.signal` may be imported by the first that names it.
    cpu_target.typing_context.refresh()


class _Overload:
    """A public function with the types of its results; `name` is for messages, `where` for calls."""

    def __init__(self, name: str, where: str, function: Callable[..., Any], rule: Rule):
        self.name = name
        self.where = where
        self.function = function
        self.rule = rule
        parameters = inspect.signature(function).parameters.values()
        # Numba binds no arguments that can only be passed by keyword.
        either = inspect.Parameter.POSITIONAL_OR_KEYWORD
        plain = [each.replace(kind=either, annotation=inspect.Parameter.empty) for each in parameters]
        self.signature = inspect.Signature(plain)
        self.positional = [each.name for each in parameters if each.kind == either]

    def register(self) -> None:
        """Tell Numba about the function."""

        def typed(*args: Any, **keywords: Any) -> Any:
            if len(args) > len(self.positional):
                most = len(self.positional)
                raise TypingError(f"{self.name}: got {len(args)} arguments by position, expected at most {most}")
            return self.implementation(self.signature.bind(*args, **keywords).arguments)

        typed.__signature__ = self.signature  # type: ignore[attr-defined]
        typed.__name__ = typed.__qualname__ = self.function.__name__
        overload(self.function, prefer_literal=True, target="cpu")(typed)

    def implementation(self, arguments: dict[str, Any]) -> Any:
        """Return the nopython function for arguments of these types; what is no type was left out."""
        given = {name: kind for name, kind in arguments.items() if isinstance(kind, types.Type)}
        try:
            result = self.result(given)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise TypingError(str(error)) from None
        values = {name: _described(self.name, name, kind)[0] for name, kind in given.items()}
        later = [name for name, value in values.items() if isinstance(value, (Form, Later))]
        constants = tuple((name, value) for name, value in values.items() if name not in later)
        pairs = zip(later, self.positional, strict=False)
        lead = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        call = (self.where, lead, tuple(later[lead:]), constants, _expected(result))
        function = self.passing(later, caller(Call(*call), _numba_type(result, given)))
        # Numba makes symbols of it. Code from the disk meets that of other processes: what differs needs other names.
        function.__qualname__ += f"_{hashed(repr((call, later, given)).encode())[:16]}"
        return function

    def passing(self, names: list[str], call: Any) -> Any:
        """Return a function with the signature that passes on the arguments `names`."""
        values = "".join(f"{name}, " for name in names)
        source = _SOURCE.format(name=self.function.__name__, parameters=str(self.signature)[1:-1], values=values)
        # Numba keeps on disk only what belongs to a module, which it then imports.
        scope: dict[str, Any] = {"__name__": calls.__name__, "call": call, "CallError": calls.CallError}
        exec(compile(source, f"<fastconv.{self.name} inside @njit>", "exec"), scope)
        return scope[self.function.__name__]

    def result(self, kinds: dict[str, types.Type]) -> Result:
        """Return what the rule says, which must be one thing whether arguments that may be None are or are not."""
        described = {name: _described(self.name, name, kind) for name, kind in kinds.items()}
        for name in self.rule.arrays:
            if name in described:
                self.check_array(name, *described[name])
        found = {self.rule.of(self.name, given) for given in _cases(described)}
        if len(found) > 1:
            raise TypeError(f"{self.name}: the dtype of the result depends on which of the arguments are None")
        return found.pop()

    def check_array(self, name: str, value: Any, *rest: Any) -> None:
        """Raise unless an argument that must be an array is one, or is None where it may be left out."""
        optional = self.signature.parameters[name].default is None
        if not (isinstance(value, Form) or (value is None and optional)):
            found = value.kind if isinstance(value, Later) else f"{value!r}"
            raise TypeError(f"{self.name}: {name} is {found}, expected an array{' or None' if optional else ''}")


def _described(function: str, name: str, kind: types.Type) -> tuple[Any, ...]:
    """Return what is known of an argument from its type; twice, if it may also be None."""
    if isinstance(kind, types.Omitted):
        return (kind.value,)
    if isinstance(kind, types.Optional):
        return (*_described(function, name, kind.type), None)
    if isinstance(kind, types.Array):
        return (Form(as_dtype(kind.dtype), kind.ndim),)
    if isinstance(kind, types.NoneType):
        return (None,)
    if isinstance(kind, (types.NumberClass, types.DType)):
        return (as_dtype(kind.dtype),)
    leaves = list(_leaves(kind))
    if not all(isinstance(leaf, _VALUES) for leaf in leaves):
        raise TypeError(f"{function}: {name} is {kind}, expected an array, a number, a string, None or a tuple of them")
    if name in _INTEGERS and any(isinstance(leaf, (types.Float, types.Complex, types.Boolean)) for leaf in leaves):
        raise TypeError(f"{function}: {name} is {kind}, expected an int or a tuple of ints")
    if all(isinstance(leaf, (types.Literal, types.NoneType)) for leaf in leaves):
        return (_constant(kind),)
    return (Later(str(kind)),)


def _leaves(kind: types.Type) -> Iterator[types.Type]:
    if isinstance(kind, types.BaseTuple):
        for item in kind:
            yield from _leaves(item)
    else:
        yield kind


def _constant(kind: types.Type) -> Any:
    if isinstance(kind, types.BaseTuple):
        return tuple(map(_constant, kind))
    return kind.literal_value if isinstance(kind, types.Literal) else None


def _cases(described: dict[str, tuple[Any, ...]]) -> Iterator[Given]:
    for values in itertools.product(*described.values()):
        yield dict(zip(described, values, strict=True))


def _expected(result: Any) -> Any:
    """Return the dtypes and dimensions that the call is to check; None: nothing."""
    if isinstance(result, Form):
        return tuple(result)
    return tuple(map(_expected, result)) if type(result) is tuple else None


def _numba_type(result: Any, given: dict[str, types.Type]) -> types.Type:
    if isinstance(result, Form):
        return types.Array(from_dtype(result.dtype), result.ndim, "C")
    if isinstance(result, Same):
        kind = given[result.argument]
        return kind.type if isinstance(kind, types.Optional) else kind
    if isinstance(result, tuple):
        return types.Tuple([_numba_type(each, given) for each in result])
    return types.none if result is None else types.intp
