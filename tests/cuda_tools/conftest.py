"""Collection: the sample kernels import numba.cuda, which costs half a second and may be missing."""

from __future__ import annotations

collect_ignore = ["sample_kernels.py"]
