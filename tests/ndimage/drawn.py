"""Drawn calls of the filters, and their comparison with SciPy's: one result or one error."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.ndimage

import fastconv as fc

DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", ">f4")
COMPLEX = ("complex64", "complex128")
MODES = ("reflect", "constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-constant", "grid-wrap")
CVALS = (0.0, 0.0, 1.5, -3.0, 300.0, 7)
# Sums of the weights' magnitudes in four dimensions; of other filters their argument says about how large they are.
GAINS = {"sobel": 128, "prewitt": 54, "laplace": 16}
SIZES = {0: 1, 1: 60, 2: 20, 3: 9, 4: 5}


def array(rng, shape, dtype):
    """Return an array; some integers cover the whole range, some arrays are not C-contiguous."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        x = rng.random(shape) < 0.5
    elif kind in "iu" and rng.random() < 0.3:
        limits = np.iinfo(dtype)
        x = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    elif kind in "iu":
        x = rng.integers(0 if kind == "u" else -99, 100, shape).astype(dtype)
    else:
        x = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if kind == "c" else 0)
        x = (np.asarray(x) * 10.0 ** rng.integers(-2, 4)).astype(dtype)
    x = np.asarray(x)
    if x.ndim and rng.random() < 0.3:
        return x[::-1] if rng.random() < 0.5 else np.asfortranarray(x)
    return x


def shifts(rng, sizes):
    """Return origins that windows of these sizes may have, now and then one that they may not."""
    return [int(rng.integers(-(k // 2), (k - 1) // 2 + 1)) + int(rng.random() < 0.01) * k for k in sizes]


def per_axis(rng, values):
    """Return one value for each axis, or one for all."""
    return values if len(set(map(str, values))) > 1 or rng.random() < 0.5 else values[0]


class Call:
    """A call of one function on a drawn array."""

    def __init__(self, rng, name, dtypes=DTYPES, axes=None):
        self.name, self.rng = name, rng
        count = int(rng.integers(0 if name not in LINES else 1, 5)) if axes is None else axes
        shape = tuple(rng.integers(int(rng.random() < 0.95), SIZES[count] + 1, count).tolist())
        self.x = array(rng, shape, str(rng.choice(dtypes)))
        self.keywords = {"mode": str(rng.choice(MODES)), "cval": CVALS[rng.integers(len(CVALS))]}
        self.args = getattr(self, f"_{name}")(shape)
        if rng.random() < 0.4:
            self.keywords["output"] = self._output()

    def _output(self):
        rng, kind = self.rng, self.x.dtype.kind
        dtype = np.dtype(str(rng.choice(COMPLEX if kind == "c" else DTYPES)))
        if rng.random() < 0.5:
            return dtype
        return np.full(self.x.shape[::-1], 7).astype(dtype).T if rng.random() < 0.3 else np.full(self.x.shape, 7, dtype)

    def _some_axes(self, shape):
        if not shape or self.rng.random() < 0.6:
            return list(range(len(shape)))
        axes = self.rng.permutation(len(shape))[: self.rng.integers(0, len(shape) + 1)].tolist()
        self.keywords["axes"] = tuple(int(a) - len(shape) * int(self.rng.random() < 0.3) for a in axes)
        return axes

    def _taps(self, sizes):
        rng = self.rng
        w = rng.integers(-3, 4, sizes) if rng.random() < 0.5 else rng.standard_normal(sizes)
        r = rng.random()
        flipped = np.flip(w)
        return w + flipped if r < 0.3 else w - flipped if r < 0.5 else w

    def _modes(self, count):
        if self.rng.random() < 0.4:
            self.keywords["mode"] = [str(self.rng.choice(MODES)) for _ in range(count)]

    def _axis(self, shape):
        self.keywords["axis"] = int(self.rng.integers(-len(shape), len(shape)))

    def _correlate(self, shape):
        axes = self._some_axes(shape)
        sizes = self.rng.integers(1, {0: 1, 1: 9, 2: 6}.get(len(axes), 4), len(axes)).tolist()
        w = np.asarray(self._taps(sizes))
        self.keywords["origin"] = per_axis(self.rng, shifts(self.rng, sizes)) if sizes else 0
        if self.x.dtype.kind == "c" and self.rng.random() < 0.5:
            w = w + 1j * self._taps(sizes)
        return (w,)

    _convolve = _correlate

    def _correlate1d(self, shape):
        self._axis(shape)
        k = int(self.rng.integers(1, 12))
        self.keywords["origin"] = shifts(self.rng, [k])[0]
        return (self._taps(k),)

    _convolve1d = _correlate1d

    def _uniform_filter1d(self, shape):
        self._axis(shape)
        k = int(self.rng.integers(1, 12))
        self.keywords["origin"] = shifts(self.rng, [k])[0]
        return (k,)

    _maximum_filter1d = _minimum_filter1d = _uniform_filter1d

    def _gaussian_filter1d(self, shape):
        self._axis(shape)
        self.keywords["order"] = int(self.rng.integers(0, 4))
        return (float(self.rng.uniform(0.3, 2)),)

    def _gaussian_filter(self, shape):
        count = len(self._some_axes(shape))
        self._modes(count)
        rng = self.rng
        self.keywords["order"] = per_axis(rng, rng.integers(0, 3, count).tolist()) if count else 0
        if rng.random() < 0.3:
            self.keywords["radius"] = per_axis(rng, rng.integers(0, 4, count).tolist()) if count else 1
        sigma = [float(s) for s in rng.choice([0.0, 0.5, 1.0, 1.7], count)]
        return (per_axis(rng, sigma) if count else 1.0,)

    def _uniform_filter(self, shape):
        count = len(self._some_axes(shape))
        self._modes(count)
        sizes = self.rng.integers(1, 7, count).tolist()
        self.keywords["origin"] = per_axis(self.rng, shifts(self.rng, sizes)) if sizes else 0
        return (per_axis(self.rng, sizes) if sizes else 3,)

    def _sobel(self, shape):
        self._axis(shape)
        self._modes(len(shape))
        return ()

    _prewitt = _sobel

    def _laplace(self, shape):
        self._modes(len(self._some_axes(shape)))
        return ()

    def _maximum_filter(self, shape):
        if self.rng.random() < 0.5:
            return self._uniform_filter(shape)
        sizes = self.rng.integers(1, 5, len(self._some_axes(shape))).tolist()
        self.keywords["origin"] = per_axis(self.rng, shifts(self.rng, sizes)) if sizes else 0
        self.keywords["footprint"] = np.asarray(self.rng.random(sizes) < 0.6)
        return ()

    _minimum_filter = _maximum_filter

    def __str__(self):
        shown = {key: f"{v.dtype}{v.strides}" if isinstance(v, np.ndarray) else v for key, v in self.keywords.items()}
        return f"{self.name} {self.x.dtype}{self.x.shape} {self.args} {shown}"

    def run(self, module):
        """Return the result of the function of a module, or the error."""
        keywords = dict(self.keywords)
        if isinstance(keywords.get("output"), np.ndarray):
            keywords["output"] = keywords["output"].copy("K")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if module is scipy.ndimage else "error")
            try:
                return getattr(module, self.name)(self.x, *self.args, **keywords)
            except (ValueError, RuntimeError, TypeError, IndexError) as error:
                return error

    def compare(self, eps=0.0):
        """Check that SciPy's result or error is ours: equal, or within `eps` of the largest element and weight."""
        before = self.x.copy()
        got, expected = self.run(fc.ndimage), self.run(scipy.ndimage)
        if isinstance(expected, Exception) or isinstance(got, Exception):
            assert str(got) == str(expected), f"{self}: {got!r}, {expected!r}"
            assert isinstance(got, type(expected)), str(self)
            assert isinstance(got, fc.FastconvError), str(self)
            return
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape), str(self)
        if got.dtype == bool:
            # SciPy leaves numbers other than 0 and 1 there.
            expected = expected.view(np.uint8) != 0
        if got.dtype.kind in "biu" or not eps:
            np.testing.assert_array_equal(got, expected, err_msg=str(self))
        elif got.size:
            gain = GAINS.get(self.name, 1 + sum(np.abs(np.asarray(a)).sum() for a in self.args))
            scale = max(float(np.abs(self.x).max()), 300.0) * gain
            # SciPy rounds the parts of complex results to the precision of the array.
            digits = max(np.finfo(a.dtype).eps for a in (got, self.x) if a.dtype.kind in "fc")
            tolerance = eps * digits * scale
            np.testing.assert_allclose(got, expected, rtol=0, atol=float(tolerance), err_msg=str(self))
        np.testing.assert_array_equal(self.x, before)
        assert not np.shares_memory(got, self.x)


LINES = {"correlate1d", "convolve1d", "gaussian_filter1d", "uniform_filter1d", "maximum_filter1d", "minimum_filter1d"}
LINES |= {"sobel", "prewitt"}
NAMES = tuple(fc.ndimage.__all__)
