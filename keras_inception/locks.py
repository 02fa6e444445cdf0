"""Locks on files, which the system releases however a process ends."""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:
    raise ImportError(
        "keras-inception runs on Linux and macOS; on Windows, use WSL."
    ) from None

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_READERS_TAKE = 5.0  # seconds, at most; a shared lock is held for an instant
_warned: set[int] = set()  # file systems


@contextlib.contextmanager
def locked(
    path: Path, *, shared: bool = False, wait: float = 0, temporary: bool = False
) -> Iterator[bool]:
    """Locks a file while the block runs; yields `False` if another holder has it.

    Shared locks are allowed at the same time; an exclusive one waits for them, and
    creates the file. A link is not followed. On a file system without locks this logs
    a warning, once, and yields `True`.

    Args:
        path: A file that nobody replaces.
        shared: Whether to take a shared lock, for an instant, only to check that nobody
            has an exclusive one. Defaults to False.
        wait: Seconds to wait for another holder. Defaults to 0.
        temporary: Whether the holder of an exclusive lock deletes the file afterwards.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lock = Path(folder, "lock")
    ...     with locked(lock) as first, locked(lock) as second:
    ...         print(first, second)
    True False
    """
    create = not shared
    with tried(path, create=create, shared=shared, wait=wait) as free:
        if free is None:
            _warn(path)
        try:
            yield free is not False
        finally:
            if temporary and create and free is not False:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def tried(
    path: Path, *, create: bool, shared: bool = False, wait: float = 0
) -> Iterator[bool | None]:
    """As `locked`, but yields `None`, and logs nothing, where there are no locks."""
    flags = os.O_RDONLY if shared else os.O_RDWR
    # without O_NONBLOCK, opening a named pipe would wait for its other end
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    while True:
        file = os.open(path, flags | (os.O_CREAT if create else 0), 0o666)
        try:
            free = _acquire(file, shared, wait)
            if free and create and not _is_at(file, path):
                continue  # its last holder has deleted it
            yield free
            return
        finally:
            os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def _acquire(file: int, shared: bool, wait: float) -> bool | None:
    started = time.monotonic()
    while (free := _try(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)) is False:
        only_readers = not shared and _try(file, fcntl.LOCK_SH)
        if only_readers:
            fcntl.flock(file, fcntl.LOCK_UN)
        patience = max(wait, _READERS_TAKE) if only_readers else wait
        if time.monotonic() - started >= patience:
            return False
        time.sleep(0.01)
    return free


def _try(file: int, kind: int) -> bool | None:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return None
    return True


def _warn(path: Path) -> None:
    device = path.stat().st_dev
    if device not in _warned:
        _warned.add(device)
        logging.getLogger(__name__).warning(
            f"{path.parent} is on a file system without locks: do not train the same "
            "run, or export to the same model, with two processes at once."
        )
