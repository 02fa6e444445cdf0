"""The terminal of the commands: progress bars, tables, and a silent TensorFlow."""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm


# Control characters but tab and newline, line separators, and changes of direction.
_STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
_OF_GRAPHS = re.compile(r"\{\{.*?\}\}|\[Op:.*", re.DOTALL)
_ADVICE = {
    "DataLossError": "A file is damaged. Records below --data-dir are written again "
    "once they are deleted.",
    "ResourceExhaustedError": "The memory is too small: try a smaller --batch-size.",
}
_OF_BARS = re.compile(r"\r|\n*(\x1b\[A)+")  # how a progress bar moves the cursor


@contextlib.contextmanager
def safe_output() -> Iterator[None]:
    """Escapes what the terminal can't show, or should not obey, within the block.

    Names of files, classes and layers are other people's: they may hold escape
    sequences, or characters that the terminal's encoding lacks.
    """
    stdout: Any = _Escaped(sys.stdout)
    stderr: Any = _Escaped(sys.stderr)
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        yield


class _Escaped:
    """A stream that escapes what it writes to another."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        moves = _OF_BARS.match(text)
        start = moves.end() if moves else 0
        rest = _STEERING.sub(lambda match: ascii(match[0])[1:-1], text[start:])
        encoding = self._stream.encoding or "utf-8"
        rest = rest.encode(encoding, "backslashreplace").decode(encoding)
        self._stream.write(text[:start] + rest)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def tensorflow_errors() -> tuple[type[Exception], ...]:
    """The base of TensorFlow's own errors, if it is loaded: importing takes seconds."""
    errors = getattr(sys.modules.get("tensorflow"), "errors", None)
    return (errors.OpError,) if errors else ()


def message_of(error: BaseException) -> str:
    """An error in one line; of TensorFlow's, without nodes, devices and traceback."""
    text = str(error) or type(error).__name__
    if isinstance(error, tensorflow_errors()):
        # Python's frames come first, and nodes of the graph last.
        text = text.removeprefix("Graph execution error:").partition("\n\t [[")[0]
        text = _OF_GRAPHS.sub("", text.rpartition("\n\n")[2])
        name = type(error).__name__
        text = f"TensorFlow: {text} ({name}). {_ADVICE.get(name, '')}"
    return " ".join(text.split())


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Hides TensorFlow's start-up messages on stderr; shows them if the block fails.

    Its first lines (processor features, no GPU found) ignore every log level.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
            if "tensorflow" in sys.modules:  # looking for GPUs prints lines
                sys.modules["tensorflow"].config.list_physical_devices()
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def progress_bar(
    label: str, total: int | None, unit: str = "picture", hidden_up_to: int = -1
) -> "tqdm":
    """A `tqdm` bar with rate and time left, on a stderr that is a terminal.

    There is none for a total up to `hidden_up_to`.

    Example:
    >>> with progress_bar("decoding", 2) as bar:
    ...     bar.update()
    """
    from tqdm import tqdm

    return tqdm(
        desc=label,
        total=total,
        unit=f" {unit}",
        # tqdm's None means "unless stderr is a terminal"
        disable=(total is not None and total <= hidden_up_to) or None,
        leave=False,
        dynamic_ncols=True,
    )


@contextlib.contextmanager
def printed_log() -> Iterator[None]:
    """Prints what the library logs at level INFO and above, within the block."""
    logger, printer = logging.getLogger("keras_inception"), _Printer()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(printer)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(printer)
        logger.setLevel(level)
        logger.propagate = propagate


class _Printer(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


def print_table(
    rows: Iterable[Sequence[object]],
    columns: Sequence[str],
    left: Container[int] = (0,),
) -> None:
    """Prints aligned columns; on a terminal long cells wrap, elsewhere they do not.

    The columns with indices in `left` are aligned left, the others right.

    Example:
    >>> print_table([["main", "0.9861"], ["aux_4a", "0.97"]], ["output", "accuracy"])
    output  accuracy
    main      0.9861
    aux_4a      0.97
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, collapse_padding=True)
    for index, column in enumerate(columns):
        table.add_column(
            Text(column),
            justify="left" if index in left else "right",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    width = None if sys.stdout.isatty() else 10_000
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():  # rich pads the last column with blanks
        print(line.rstrip())
