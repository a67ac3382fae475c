"""Pictures of networks: what layers see, kernels, the course of a training, which classes are mixed up.

Every function returns a `matplotlib.figure.Figure` that belongs to no window and no global state; with a path it is
written there too. Needs the extra `viz`.
"""

from fastconv.viz.confusions import confusion
from fastconv.viz.curves import training
from fastconv.viz.kernels import filters
from fastconv.viz.maps import feature_maps

__all__ = ["confusion", "feature_maps", "filters", "training"]
