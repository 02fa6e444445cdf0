"""Lists of names in messages."""

from collections.abc import Iterable


def list_names(names: Iterable[object], most: int = 10) -> str:
    """Quotes names for a message; of more than `most` it gives the first and the count.

    >>> list_names(["ant", "bee"])
    "'ant', 'bee'"
    >>> list_names(range(12), most=3)
    '0, 1, 2, ... (12 in all)'
    >>> list_names([])
    'none'
    """
    names = list(names)
    shown = ", ".join(map(repr, names[:most])) or "none"
    return f"{shown}, ... ({len(names)} in all)" if len(names) > most else shown
