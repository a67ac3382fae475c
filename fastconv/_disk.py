"""The cache folder on disk: where it is, whether it may be trusted, and files that are whole or not there.

Files are written under another name and renamed. Every trouble with the disk is the caller's to take as "nothing
stored"; nothing here knows what the files mean.

Layout: <cache folder>/kernels, compiled kernels (_jit.py); machine, constants; wisdom, measured choices (dispatch/).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

__all__ = ["hashed", "is_private", "make_folder", "put", "read", "remove_old", "root", "source_digest"]

DIGEST_BYTES = 16
# Folders of other digests (versions, edits) are removed when unused for so long, or when there are so many newer ones.
_KEEP_SECONDS = 30 * 86400
_KEEP_FOLDERS = 16


@lru_cache(maxsize=1)
def root() -> Path | None:
    """Return the cache folder, which need not exist, or None where there is none."""
    if os.environ.get("FASTCONV_DISABLE_CACHE", "0") not in ("", "0"):
        return None
    chosen = os.environ.get("FASTCONV_CACHE_DIR")
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    base = _user_cache()
    # expanduser leaves "~" where there is no home.
    return Path(base, "fastconv") if os.path.isabs(base) else None


def _user_cache() -> str:
    if sys.platform == "win32":
        return os.environ.get("LOCALAPPDATA") or os.path.expanduser(r"~\AppData\Local")
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Caches")
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    return chosen if os.path.isabs(chosen) else os.path.expanduser("~/.cache")


def is_private(folder: Path | None) -> bool:
    """Tell whether a folder exists and only this user can write there: what lies in it decides what we run."""
    try:
        return folder is not None and folder.is_dir() and _is_own(folder.stat())
    except OSError:
        return False


def _is_own(status: os.stat_result) -> bool:
    """Tell whether only this user can write what this is the status of; an access list shows in the group's bits."""
    # The effective user: a program with the rights of another must not believe what its caller has written.
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


def make_folder(*parts: str) -> Path | None:
    """Create the folder `parts` of the cache folder if it is missing; None if it may not be used.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    folder = root()
    if folder is None:
        return None
    for missing in reversed([parent for parent in folder.parents if not parent.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    for part in parts:
        if not is_private(folder):
            return None
        folder = folder / part
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink():
            return None
    return folder if is_private(folder) else None


def read(*parts: str, limit: int | None = None) -> bytes:
    """Return what is in the file `parts` of the cache folder, which only this user can have written.

    Each folder is opened within the one before, so whoever may rename a folder above cannot change it on the way. Only
    the cache folder itself may be a symbolic link.

    Raises
    ------
    OSError
        If there is no such file; if another user owns or may write it, or a folder on the way; if it is longer than
        `limit`.
    """
    top = root()
    if top is None:
        raise FileNotFoundError("there is no cache folder")
    with contextlib.ExitStack() as stack:
        found = _opened(stack, top, parts)
        file = stack.enter_context(open(found, "rb", closefd=not isinstance(found, int)))
        data = file.read() if limit is None else file.read(limit + 1)
    if limit is not None and len(data) > limit:
        raise OSError(f"{parts[-1]} is too long")
    return data


def _opened(stack: contextlib.ExitStack, top: Path, parts: tuple[str, ...]) -> Path | int:
    """Return a descriptor of the file, which the stack closes, or its path where there is no other way."""
    if not _CHAINS:
        return top.joinpath(*parts)
    handle: int | None = None
    for i, path in enumerate((os.fspath(top), *parts)):
        kind = _FOLDER if i < len(parts) else 0
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | kind | (_NO_LINK if i else 0), dir_fd=handle)
        stack.callback(os.close, handle)
        if not _is_own(os.fstat(handle)):
            raise PermissionError(f"another user owns or may write {path}")
    assert handle is not None
    return handle


# Whether files can be opened within an open folder.
_CHAINS = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")
_FOLDER, _NO_LINK = getattr(os, "O_DIRECTORY", 0), getattr(os, "O_NOFOLLOW", 0)


def remove_old(folder: Path) -> None:
    """Remove the folders of other digests that are old or many; for a process that still uses one they are misses."""
    others = []
    for other in folder.parent.iterdir():
        with contextlib.suppress(OSError):
            if other != folder and other.is_dir() and not other.is_symlink():
                others.append((other.stat().st_mtime, other))
    others.sort(reverse=True)
    for i, (used, other) in enumerate(others):
        if i >= _KEEP_FOLDERS or used < time.time() - _KEEP_SECONDS:
            shutil.rmtree(other, ignore_errors=True)


def put(path: Path, data: bytes) -> None:
    """Write a file so that any reader sees all of it, or what was there before.

    Raises
    ------
    OSError
        If it cannot be written; then nothing is left.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def hashed(*parts: bytes) -> str:
    """Return a hash of a sequence of parts."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        # The length keeps neighbouring parts apart.
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def source_digest(versions: object, sources: Iterable[Path]) -> str:
    """Hash files of this package, and the versions of what else decides.

    Raises
    ------
    OSError
        If there are none.
    """
    package = Path(__file__).parent
    found = sorted(sources)
    if not found:
        raise OSError("no sources to stamp the cache with")
    parts = [repr(versions).encode()]
    for source in found:
        parts += [source.relative_to(package).as_posix().encode(), source.read_bytes()]
    return hashed(*parts)
