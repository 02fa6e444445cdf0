"""How a process treats memory that it has freed."""

import ctypes
import sys

# malloc.h of the GNU C library
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Keeps freed memory in this process, for the next step of a training or a request.

    The GNU C library hands large blocks back to the system at once, and gets them back
    page by page, each filled with zeros: in a convolutional network on a processor,
    whose every layer makes a large tensor, a third of the time (docs/performance.md).
    The commands do this by themselves. It pays on a CPU alone, and the process's memory
    then stays at its peak.

    Returns:
        Whether the C library knows how; elsewhere than on Linux nothing is done.

    Example:
    >>> kept = keep_freed_memory()
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library, such as musl
        return False
    # One arena: a thread's own hands back what it frees in spite of the others.
    return all(
        mallopt(option, value) == 1
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1))
    )
