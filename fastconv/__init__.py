"""Fast convolution for NumPy arrays: kernels compiled by Numba behind one dispatch API.

The names follow torch.nn.functional; see `fastconv.conv2d` for the keywords that all operations take.
"""

from typing import TYPE_CHECKING

from fastconv.api.adaptive import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    global_avg_pool,
    global_max_pool,
)
from fastconv.api.autotune import autotune
from fastconv.api.conv import conv2d, depthwise_conv2d, pointwise_conv2d
from fastconv.api.conv_nd import conv1d, conv3d
from fastconv.api.conv_transpose import conv_transpose1d, conv_transpose2d, conv_transpose3d
from fastconv.api.devices import devices
from fastconv.api.explain import count_ops, explain
from fastconv.api.factors import Separation, separate
from fastconv.api.fold import fold, unfold
from fastconv.api.lp_pool import lp_pool1d, lp_pool2d, lp_pool3d
from fastconv.api.plan import ConvPlan, plan_conv2d
from fastconv.api.pool import avg_pool1d, avg_pool2d, avg_pool3d, max_pool1d, max_pool2d, max_pool3d
from fastconv.api.receptive import ReceptiveField, receptive_field
from fastconv.api.resize import interpolate
from fastconv.api.separable import separable_conv2d, spatially_separable_conv2d
from fastconv.api.unpool import max_unpool1d, max_unpool2d, max_unpool3d
from fastconv.api.upsample import (
    bed_of_nails_unpool1d,
    bed_of_nails_unpool2d,
    bed_of_nails_unpool3d,
    nearest_unpool1d,
    nearest_unpool2d,
    nearest_unpool3d,
)
from fastconv.api.warmup import warmup
from fastconv.api.workspace import get_max_workspace, set_max_workspace
from fastconv.dispatch.cost import OpCount
from fastconv.errors import (
    ArgumentTypeError,
    DtypeError,
    FastconvError,
    MissingExtraError,
    ModelFileError,
    NonFiniteError,
    OptionError,
    ShapeError,
    UnsupportedError,
)
from fastconv.threads import get_num_threads, set_num_threads, threads

if TYPE_CHECKING:
    from fastconv import activations, grad, ndimage, nn, signal, testing, viz

__version__ = "0.1.0"

__all__ = [
    "ArgumentTypeError",
    "ConvPlan",
    "DtypeError",
    "FastconvError",
    "MissingExtraError",
    "ModelFileError",
    "NonFiniteError",
    "OpCount",
    "OptionError",
    "ReceptiveField",
    "Separation",
    "ShapeError",
    "UnsupportedError",
    "__version__",
    "activations",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "autotune",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "bed_of_nails_unpool1d",
    "bed_of_nails_unpool2d",
    "bed_of_nails_unpool3d",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "count_ops",
    "depthwise_conv2d",
    "devices",
    "explain",
    "fold",
    "get_max_workspace",
    "get_num_threads",
    "global_avg_pool",
    "global_max_pool",
    "grad",
    "interpolate",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "ndimage",
    "nearest_unpool1d",
    "nearest_unpool2d",
    "nearest_unpool3d",
    "nn",
    "plan_conv2d",
    "pointwise_conv2d",
    "receptive_field",
    "separable_conv2d",
    "separate",
    "set_max_workspace",
    "set_num_threads",
    "signal",
    "spatially_separable_conv2d",
    "testing",
    "threads",
    "unfold",
    "viz",
    "warmup",
]


_NAMESPACES = ("activations", "grad", "ndimage", "nn", "signal", "testing", "viz")


def __getattr__(name: str) -> object:
    """Load the namespaces that most programs do not use."""
    if name in _NAMESPACES:
        import importlib

        return importlib.import_module(f"fastconv.{name}")
    raise AttributeError(f"module 'fastconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
