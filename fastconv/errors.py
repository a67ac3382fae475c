"""The exceptions that fastconv raises.

Every one derives from `FastconvError` and from the builtin exception that NumPy users expect,
so both ``except fastconv.FastconvError`` and ``except ValueError`` work.
"""

__all__ = [
    "ArgumentTypeError",
    "DtypeError",
    "FastconvError",
    "MissingExtraError",
    "ModelFileError",
    "NonFiniteError",
    "OptionError",
    "ShapeError",
    "UnsupportedError",
]


class FastconvError(Exception):
    """Base class of every exception that fastconv raises."""


class ShapeError(FastconvError, ValueError):
    """Shapes, or sizes derived from them, do not fit together."""


class OptionError(FastconvError, ValueError):
    """A keyword has a value outside its allowed set or range."""


class DtypeError(FastconvError, TypeError):
    """An array has a dtype, or is of a kind, that no convolution accepts."""


class ArgumentTypeError(FastconvError, TypeError):
    """A scalar argument has the wrong type, for example ``stride=1.5``."""


class UnsupportedError(FastconvError, NotImplementedError):
    """A valid request that this version does not implement."""


class ModelFileError(FastconvError, ValueError):
    """A file holds no model that this version can load."""


class NonFiniteError(FastconvError, ArithmeticError):
    """Training came to a loss that is NaN or infinite."""


class MissingExtraError(FastconvError, ImportError):
    """A package that only an extra installs is not there."""
