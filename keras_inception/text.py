"""Names, and lists of them as arguments and in messages; lengths of time."""

import unicodedata
from collections.abc import Iterable


def normal_form(name: str) -> str:
    """A class name in Unicode's form NFC: file systems differ in how they write é."""
    return unicodedata.normalize("NFC", name)


def check_list(argument: str, names: object) -> None:
    """Raises a `ValueError` for a string, whose letters would be taken for names."""
    if isinstance(names, str):
        raise ValueError(
            f"{argument} is a list of names; write [{names!r}] for one. Received: "
            f"{names!r}"
        )


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


def duration(seconds: float) -> str:
    """Describes a length of time to people.

    >>> [duration(seconds) for seconds in (0.4, 75, 600, 7500, 200_000)]
    ['1 s', '75 s', '10 min', '2 h 5 min', '55 h 33 min']
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
