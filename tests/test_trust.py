"""What users need not look at: an import has no effects, and files that others may have written execute nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import _disk, nn
from fastconv.cli import info
from fastconv.named_kernels import named

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(fc.__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")

# Audit events of what has effects. Numba and SciPy are not needed for any of it.
WATCH = """
import ctypes, os, sys, threading, warnings
import numpy
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
WATCHED = ("socket.", "subprocess.", "os.", "shutil.", "tempfile.", "ctypes.", "mmap.", "_thread.", "pickle.")
HARMLESS = ("os.listdir", "os.scandir", "os.walk", "ctypes.addressof")
events = []
def watch(event, args):
    if event == "open" and (args[2] & WRITES or str(args[0]).startswith("/dev/")):
        events.append((event, str(args[0])))
    elif event.startswith(WATCHED) and event not in HARMLESS:
        events.append((event, str(args)))
def state():
    tasks = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else threading.active_count()
    return tasks, threading.active_count(), dict(os.environ), list(warnings.filters), numpy.geterr(), list(sys.path)
before = state()
"""


def python(code, **environment):
    """Run code in a new process and return what it prints."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    command = [sys.executable, "-c", WATCH + code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_import_has_no_effects(tmp_path):
    code = """
sys.addaudithook(watch)
seen = set(sys.modules)
import fastconv
print(events, state() == before, [n for n in ("numba", "scipy", "torch", "cuda", "llvmlite") if n in sys.modules])
libraries = open("/proc/self/maps").read() if sys.platform == "linux" else ""
print([name for name in ("libcuda", "libnv", "libLLVM") if name in libraries])
"""
    folders = {name: str(tmp_path / name) for name in ("HOME", "XDG_CACHE_HOME", "FASTCONV_CACHE_DIR")}
    assert python(code, **folders).splitlines() == ["[] True []", "[]"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_import_of_every_namespace_starts_nothing(tmp_path):
    code = """
import scipy.fft
before = state()
sys.addaudithook(watch)
import fastconv.activations, fastconv.grad, fastconv.ndimage, fastconv.nn, fastconv.signal
print(events, state()[0] == before[0], "numba" in sys.modules)
"""
    assert python(code, FASTCONV_CACHE_DIR=str(tmp_path / "own")) == "[] True False"
    assert list(tmp_path.iterdir()) == []


def test_only_the_cache_of_kernels_unpickles():
    texts = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    loads = re.compile(r"^\s*(?:import|from) (?:_?pickle|marshal|shelve|dill|cloudpickle|joblib)\b", re.MULTILINE)
    found = {path.relative_to(PACKAGE).as_posix() for path, text in texts.items() if loads.search(text)}
    assert found == {"_jit.py", "kernels/cuda/compiled.py"}
    texts |= {path: path.read_text(encoding="utf-8") for path in (ROOT / "examples").rglob("*.py")}
    assert not [path for path, text in texts.items() if "allow_pickle=True" in text]


def test_numpy_files_of_objects_are_refused(tmp_path):
    path = tmp_path / "objects.npy"
    np.save(path, np.array([Hostile(str(tmp_path / "ran"))], object), allow_pickle=True)
    with pytest.raises(fc.OptionError, match="holds no array"):
        named(str(path))
    assert not (tmp_path / "ran").exists()


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


# Saved models.


def saved(path, metadata, tensors=None):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    save_file(tensors or {"a/kernel": np.zeros(1, "f4")}, path, metadata=metadata)
    return path


def described(layers, **changed):
    text = json.dumps({"name": "m", "input_shape": [3], "layers": layers, "compiled": None} | changed)
    return {"format": "fastconv.nn", "format_version": "1", "model": text}


def dense(**config):
    return {"class": "Dense", "config": {"units": 2, "name": "a"} | config}


@pytest.mark.parametrize(
    "metadata",
    [
        described([{"class": "__import__", "config": {"name": "os"}}]),
        described([{"class": "os.system", "config": {}}]),
        described([{"class": "Layer", "config": {}}]),
        described([{"class": "Sequential", "config": {}}]),
        described([dense(kernel_initializer="os.system")]),
        described([dense(kernel_initializer=["os.system", 1])]),
        described([dense(activation="__class__")]),
        described([dense(__class__="x")]),
        described([dense(units=10**14)]),
        described([dense(units=10**30)]),
        described([dense(units=-1)]),
        described([dense(units=1e400)]),
        described([{"class": "Conv2D", "config": {"filters": 10**9, "kernel_size": [9, 9]}}], input_shape=[9, 9, 9]),
        described([], input_shape=[10**15]),
        described("text"),
        described([5]),
        {"format": "fastconv.nn", "format_version": "1", "model": "[" * 100_000},
        {"format": "fastconv.nn", "format_version": "1", "model": "1" * 100_000},
        {"format": "fastconv.nn", "format_version": "1"},
        {"format": "fastconv.nn", "format_version": "1", "model": "NaN"},
    ],
)
def test_hostile_descriptions_of_models_are_one_clear_error(tmp_path, metadata):
    path = saved(tmp_path / "m.safetensors", metadata)
    with pytest.raises(fc.ModelFileError, match=r"^load_model: ") as caught:
        nn.load_model(path)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


def header(text, size=None):
    data = text if isinstance(text, bytes) else text.encode()
    return (len(data) if size is None else size).to_bytes(8, "little") + data


TENSOR = '{"a": {"dtype": "%s", "shape": %s, "data_offsets": %s}}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        header("", 2**63),
        header("{}", 2**40),
        header("{"),
        header("[" * 50_000),
        header('{"a": 1}'),
        header(b"\xff\xfe"),
        header(TENSOR % ("F32", "[2]", "[0, 99999999999]")),
        header(TENSOR % ("F32", "[4611686018427387904, 4]", "[0, 0]")),
        header(TENSOR % ("F32", "[2]", "[8, 0]")) + bytes(8),
        header(TENSOR % ("O", "[1]", "[0, 8]")) + bytes(8),
        header(TENSOR % ("F32", "[-2]", "[0, 8]")) + bytes(8),
        header('{"__metadata__": {"format": 5}}'),
        b"\x80\x04cos\nsystem\n(S'echo'\ntR.",
        b"PK\x03\x04" + bytes(60),
    ],
)
def test_hostile_headers_are_one_clear_error(tmp_path, data):
    pytest.importorskip("safetensors")
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(fc.ModelFileError, match=r"^load_model: .*safetensors") as caught:
        nn.load_model(path)
    assert "\n" not in str(caught.value)


def test_loading_a_model_executes_nothing(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "m.safetensors"
    model = nn.Sequential([nn.Dense(2, "relu", input_shape=(3,))])
    model.compile("adam", "mse")
    model.save(path)
    code = f"""
import fastconv.nn, safetensors.numpy
fastconv.nn.Sequential([fastconv.nn.Dense(1, input_shape=(1,))]).compile("adam", "mse")
def deeper(event, args):
    if event in ("exec", "compile", "import"):
        events.append((event, str(args)[:80]))
    watch(event, args)
sys.addaudithook(deeper)
loaded = fastconv.nn.load_model({str(path)!r})
print(events, len(loaded.layers))
"""
    assert python(code) == "[] 1"


# The cache folder.


@pytest.fixture
def folder(tmp_path, monkeypatch):
    top = tmp_path / "cache"
    monkeypatch.setattr(_disk, "root", lambda: top)
    assert _disk.make_folder("kernels", "digest") == top / "kernels" / "digest"
    (top / "kernels" / "digest" / "file").write_bytes(b"code")
    (top / "kernels" / "digest" / "file").chmod(0o600)
    assert _disk.read("kernels", "digest", "file") == b"code"
    return top


@posix
def test_every_new_folder_is_private(tmp_path, monkeypatch):
    monkeypatch.setattr(_disk, "root", lambda: tmp_path / "above" / "cache")
    before = os.umask(0)
    try:
        made = _disk.make_folder("kernels", "digest")
        _disk.put(made / "file", b"code")
    finally:
        os.umask(before)
    inside = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(inside) == 4
    assert {path.stat().st_mode & 0o777 for path in inside} == {0o700}
    assert (made / "file").stat().st_mode & 0o777 == 0o600


@posix
@pytest.mark.parametrize("part", ["", "kernels", "kernels/digest", "kernels/digest/file"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_may_write_is_not_read(folder, part, mode):
    path = folder / part
    path.chmod(path.stat().st_mode | mode)
    with pytest.raises(PermissionError, match="another user owns or may write"):
        _disk.read("kernels", "digest", "file")
    if not part.endswith("file"):
        assert _disk.make_folder("kernels", "digest") is None


@posix
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("part", ["", "kernels", "kernels/digest", "kernels/digest/file"])
def test_what_another_user_owns_is_not_read(folder, part):
    os.chown(folder / part, 12345, -1)
    with pytest.raises(PermissionError, match="another user owns or may write"):
        _disk.read("kernels", "digest", "file")
    if not part.endswith("file"):
        assert _disk.make_folder("kernels", "digest") is None


@posix
@pytest.mark.parametrize("part", ["kernels", "kernels/digest", "kernels/digest/file"])
def test_links_inside_the_folder_are_not_followed(folder, tmp_path, part):
    (folder / part).rename(tmp_path / "elsewhere")
    (folder / part).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        _disk.read("kernels", "digest", "file")
    if not part.endswith("file"):
        assert _disk.make_folder("kernels", "digest") is None


@posix
def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    folder.rename(tmp_path / "large-disk")
    folder.symlink_to(tmp_path / "large-disk")
    assert _disk.read("kernels", "digest", "file") == b"code"
    assert _disk.make_folder("kernels", "digest") == folder / "kernels" / "digest"
    (tmp_path / "large-disk").chmod(0o777)
    with pytest.raises(PermissionError):
        _disk.read("kernels", "digest", "file")


@posix
def test_folder_that_is_exchanged_on_the_way_is_noticed(folder, tmp_path, monkeypatch):
    """Who may rename a folder above the cache can show another folder, but only whole and only one of this user's."""
    right, done = os.open, []

    def exchange(path, *args, **keywords):
        found = right(path, *args, **keywords)
        if str(path) == str(folder) and not done:
            done.append(folder.rename(tmp_path / "old"))
            (folder / "kernels" / "digest").mkdir(parents=True)
            (folder / "kernels" / "digest" / "file").write_bytes(b"hostile")
        return found

    monkeypatch.setattr(os, "open", exchange)
    monkeypatch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, exchange})
    assert _disk.read("kernels", "digest", "file") == b"code"
    assert done


def test_reading_leaves_no_descriptor_open(folder):
    def count():
        return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0

    before = count()
    _disk.read("kernels", "digest", "file")
    for parts in (("kernels", "digest", "none"), ("none", "file"), ("kernels", "digest")):
        with pytest.raises(OSError, match=r"[Nn]o such file|[Ii]s a directory|[Pp]ermission"):
            _disk.read(*parts)
    with pytest.raises(OSError, match="too long"):
        _disk.read("kernels", "digest", "file", limit=3)
    assert _disk.read("kernels", "digest", "file", limit=4) == b"code"
    if os.name == "posix":
        (folder / "kernels").chmod(0o777)
        with pytest.raises(PermissionError):
            _disk.read("kernels", "digest", "file")
    assert count() == before


@posix
def test_info_says_which_folder_is_refused(folder):
    assert info.cache() == (str(folder), "on")
    for refused in (folder / "kernels", folder):
        refused.chmod(0o770)
        assert info.cache() == (str(folder), f"off ({refused} is no folder that only you can write to)")
