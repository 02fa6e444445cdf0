"""Records the terminal session that README shows: docs/figures/terminal.svg.

    python docs/recording.py

Runs the commands for real, in an empty folder, in about two minutes.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

FIGURE = Path(__file__).parent / "figures/terminal.svg"
MODEL = "runs/digits/model.keras"
COMMANDS = (
    "keras-inception train digits --width 0.25 --epochs 4",
    f"keras-inception gradients {MODEL} digits --pictures 32 --output seen",
    f"keras-inception export {MODEL}",
)
SERVE = "keras-inception serve saved_models/digits"
ASK = "keras-inception predict --url http://127.0.0.1:8501/v1/models/digits five.png"
WIDTH = 92  # characters
# rich's own format loads its font from another host
FONTS = re.compile(r"@font-face {{.*?}}\n", re.DOTALL)


def run(command: str) -> str:
    """What a command prints, on both streams."""
    done = subprocess.run(
        words(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{command}\n{done.stdout}")
    return done.stdout


def words(command: str) -> list[str]:
    """A command of ours, by this interpreter."""
    return [sys.executable, "-m", "keras_inception_cli", *command.split()[1:]]


def record() -> str:
    """Runs all commands in the working directory; returns the session as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())

    def show(command: str, printed: str) -> None:
        console.print(Text(f"$ {command}", style="bold"))
        console.print(Text(printed.rstrip()))

    for command in COMMANDS:
        show(command, run(command))
    server = subprocess.Popen(words(SERVE), stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        show(f"{SERVE} &", "".join(server.stdout.readline() for _ in range(4)))
        show(ASK, run(ASK))
    finally:
        server.terminate()
        server.wait()
    return console.export_svg(
        title="from digits to a served model",
        code_format=FONTS.sub("", CONSOLE_SVG_FORMAT),
    )


def write_five(path: Path) -> None:
    """Writes a handwritten five that no training has seen."""
    import tensorflow as tf

    import keras_inception as ki

    digits = ki.data.load("digits", 32).source.validation
    five = digits.elements[0][digits.labels == 5][1]
    tf.io.write_file(str(path), tf.io.encode_png(five))


def main() -> None:
    """Runs the command."""
    os.environ["PYTHONPATH"] = str(FIGURE.parents[2])
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    sys.path.insert(0, os.environ["PYTHONPATH"])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_five(Path("five.png"))
        FIGURE.write_text(record())
    print(f"wrote {FIGURE}")


if __name__ == "__main__":
    main()
