"""Reads the commands and Python of README and the guides, and runs them.

`python tests/pages.py docs/first-model.md` runs the commands about `digits` as they are
(minutes) and rewrites the output below them.

Every ```sh, ```console and ```python block of a page is run, in order, in a folder with
small pictures, unless one of these comments stands before it:

    <!-- excerpt: why it cannot run here -->    only the options of its commands parse
    <!-- slow: why it takes long -->            run by `pytest -m slow`

Searches, servers and export formats always count as slow; what follows the prompt of
another machine (`host0$`) is never run.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "tuning/README.md",
    ROOT / "saved_models/README.md",
]

BLOCK = re.compile(
    r"(?:<!-- (?P<marker>excerpt|slow): [^>]+ -->\n+)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PROMPT = re.compile(r"^(\w*)\$ +", re.MULTILINE)
OURS = ("keras-inception", "python -m tuning.search")
LONG = ("python -m tuning.search", "keras-inception serve", "--format")

# What stands for a page's DATA and MODEL, and for its expensive numbers.
STANDS_FOR = {"DATA": "flowers", "MODEL": "runs/demo/model.keras"}
SMALLER = {
    "--epochs": "1",
    "--width": "0.125",
    "--trials": "3",
    "--executions": "2",
    "--workers": "1",
    "--steps": "2",
    "--pictures": "4",
    "--batch-size": "32",
}
ADDED = {
    "train": ["--epochs 1", "--width 0.125", "--no-batch-norm"],
    "gradients": ["--image-size 64", "--width 0.125"],
    "serve": ["--port 0"],
    "-m": ["--trials 3", "--executions 2", "--epochs 1", "--width 0.125"],
}
LEFT_OUT = {f"inception_{module}" for module in ("3b", "4b", "4c", "4e", "5a")}
SMALLER_PYTHON = {
    r"\b224\b": "32",
    "width=0.25": "width=0.125",
    "batch_norm=True": "batch_norm=False",
    'weights="imagenet"': "weights=None",
    r"epochs=\d+": "epochs=1",
}

# Words of the output that depend on the pictures or on chance.
ALIKE = {
    r"\d+(?:[.,:]\d+)*(?:e-?\d+)?|\bnan\b": "#",
    r"augmentation: \w+": "augmentation: WORD",
    r"flowers/[\w#]+/[\w#]+\.(?:jpg|png)": "PICTURE",
    r"(?:#[a-e] #, )+(?:constant|linear|cosine), dropout #, width #(, batch norm)?": (
        "SETTING"
    ),
    r"googlenet(_small)? at #x#": "NETWORK at #x#",
    r"\((?:SETTING|no heads)\)": "(SETTING)",
    r"(?:paper|no heads)? +(?:SETTING|no heads), # s$": " SETTING, # s",
    r": (?:not )?a detectable difference": ": VERDICT",
    r"\baux_#[a-e]\b": "aux_#",
    r"^(aux_#) +(?:# +)?(?=#%)": "aux_# ",
    r"[ \t]+": " ",
}
# Lines that are printed for some results and not for others.
SOMETIMES = re.compile(
    "The best is # above|the exits raise the accuracy|about # (s|min|h # min) left"
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: The file.
        line: Where the block begins.
        language: `"sh"`, `"console"`, `"python"`, or what is not run.
        text: Its lines.
        marker: `"excerpt"`, `"slow"` or `None`: whether and when it is run.
    """

    page: Path
    line: int
    language: str
    text: str
    marker: str | None

    @property
    def commands(self) -> list[tuple[str, str]]:
        """The commands of an sh or console block, each with the output below it."""
        if self.language == "sh":
            return [(command, "") for command in _whole_commands(self.text)]
        if self.language != "console":
            return []
        parts = PROMPT.split(self.text)[2::2]
        return [tuple(part.partition("\n")[::2]) for part in parts]


def _whole_commands(text: str) -> Iterator[str]:
    """The commands of a shell script; one in quotes may have several lines."""
    command = ""
    for line in text.replace("\\\n", " ").splitlines():
        command += line
        try:
            shlex.split(command, comments=True)
        except ValueError:  # a quotation is still open
            command += "\n"
            continue
        if command.strip():
            yield command
        command = ""


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text, found = page.read_text(), []
    for match in BLOCK.finditer(text):
        marker, block = match["marker"], match["text"]
        if match["language"] != "python" and marker is None:
            if any(machine for machine in PROMPT.findall(block)):
                marker = "excerpt"
            elif any(long in block for long in LONG):
                marker = "slow"
        line = text.count("\n", 0, match.start("text"))
        found.append(Block(page, line, match["language"], block, marker))
    return found


def inline_commands(page: Path) -> list[str]:
    """Our commands with options that stand in backticks within a sentence or table."""
    from keras_inception_cli import COMMANDS

    prose = BLOCK.sub("", page.read_text())
    found = []
    for code in re.findall(r"`([^`\n]+)`", prose):
        if code.startswith(OURS):
            # `keras-inception serve` alone is the command's name
            found += [code] if len(code.split()) > 2 else []
        elif code.split()[0] in COMMANDS and " " in code:
            found.append(f"keras-inception {code}")
    return found


def words_of(command: str) -> Iterator[list[str]]:
    """The words of each of a line's commands, without comments and variables."""
    words = shlex.split(command, comments=True)
    for separator, group in itertools.groupby(words, lambda word: word in ("&&", "|")):
        if not separator:
            rest = itertools.dropwhile(re.compile(r"[A-Z_]+=").match, group)
            yield list(rest)


def parse(words: list[str]) -> None:
    """Parses a command's options without running it.

    Raises:
        SystemExit: If an option is not known, or a value not allowed.
    """
    import keras_inception_cli
    from tuning import search

    if words[0] == "keras-inception":
        stubs = [
            mock.patch.object(module, "run", return_value=0)
            for module in keras_inception_cli.COMMANDS.values()
        ]
        with contextlib.ExitStack() as stack:
            for stub in stubs:
                stack.enter_context(stub)
            if words[1:] != ["--help"]:
                keras_inception_cli.main(words[1:])
    elif words[:3] == ["python", "-m", "tuning.search"]:
        with mock.patch.object(search, "run", return_value=0):
            search.main(words[3:])


class Workshop:
    """A folder in which a page's commands are run, one after the other.

    Args:
        folder: Empty, or with what an earlier page left.
        provided: A folder whose `runs/demo` and `saved_models/digits` stand for every
            run and export that a page names and no command of it has made.
    """

    def __init__(self, folder: Path, provided: Path | None = None):
        self.folder, self.provided = folder, provided
        self.names: dict[str, object] = {"__name__": "page"}
        self.server: subprocess.Popen | None = None
        self.address = ""
        if not (folder / "five.png").exists():
            write_pictures(folder)

    def run(self, command: str, *, small: bool = True) -> str:
        """Runs one line of a page and returns what it prints on both streams."""
        searches = "tuning.search" in command  # they name every module
        world = small_world() if small and not searches else contextlib.nullcontext()
        with contextlib.chdir(self.folder), world:
            return "".join(self._run(w, small) for w in words_of(command) if w)

    def run_python(self, text: str) -> None:
        """Executes a block in the page's namespace."""
        for pattern, value in SMALLER_PYTHON.items():
            text = re.sub(pattern, value, text)
        with contextlib.chdir(self.folder), small_world():
            self._provide(["", "", *re.findall(r'"([\w/.-]+\.keras)"', text)])
            exec(compile(text, "page", "exec"), self.names)

    def close(self) -> None:
        """Ends the server that a page started."""
        if self.server:
            self.server.kill()
            self.server.communicate()

    def _run(self, words: list[str], small: bool) -> str:
        import keras_inception_cli

        module = words[:3] == ["python", "-m", "tuning.search"]
        example = words[0] == "python" and words[1].startswith("examples/")
        if words[0] != "keras-inception" and not module and not example:
            return ""
        if "--url" in words and not self.server:
            return ""
        words = [STANDS_FOR.get(word, word) for word in words]
        words = [word.replace("127.0.0.1:8501", self.address) for word in words]
        if small:
            words = smaller(words)
            self._provide(words)
        if words[1] == "serve":
            return self._serve(words)
        with (
            contextlib.redirect_stdout(io.StringIO()) as printed,
            contextlib.redirect_stderr(printed),
        ):
            if example:
                with mock.patch.object(sys, "argv", words[1:]):
                    runpy.run_path(str(ROOT / words[1]), run_name="__main__")
            elif module:
                from tuning import search

                search.main(words[3:])
            else:
                keras_inception_cli.main(words[1:])
        return printed.getvalue()

    def _serve(self, words: list[str]) -> str:
        with socket.create_server(("127.0.0.1", 0)) as free:
            words = [*words, "--grpc-port", str(free.getsockname()[1])]
        self.server = subprocess.Popen(
            [sys.executable, "-m", "keras_inception_cli", *words[1:]],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        lines = [self.server.stdout.readline() for _ in range(4)]
        self.address = re.search(r"127\.0\.0\.1:\d+", "".join(lines)).group()
        return "".join(lines)

    def _provide(self, words: list[str]) -> None:
        """Puts a trained run, file or export where a command looks for one."""
        if not self.provided:
            return
        demo = self.provided / "runs/demo"
        for word in words[2:]:
            path = Path(word)
            if path.exists():
                continue
            if word == "runs" or re.match(r"runs/\w+/(model|last)\.keras", word):
                run = path.parent if path.suffix else path / "demo"
                if not run.exists():
                    shutil.copytree(demo, run)
                if not path.exists():
                    shutil.copy(run / "model.keras", path)
            elif path.suffix == ".keras" and words[1] != "convert":
                shutil.copy(demo / "model.keras", path)
            elif word.startswith("saved_models/"):
                shutil.copytree(self.provided / "saved_models/digits", path)
        if "--resume" in words:
            _unfinished(Path("runs") / words[words.index("--name") + 1], demo)


def smaller(words: list[str]) -> list[str]:
    """A command with numbers that a test can afford."""
    words = list(words)
    for index, word in enumerate(words[:-1]):
        if word in SMALLER:
            words[index + 1] = SMALLER[word]
    if "--resume" in words:
        return words
    of_another = {"--config", "--weights"} & set(words)  # which says how wide it is
    for added in map(str.split, ADDED.get(words[1], [])):
        kept = words[1] != "train" or not of_another or added[0] == "--epochs"
        if kept and added[0] not in words:
            words += added
    return words


def form(text: str) -> list[str]:
    """The lines of an output without what differs from run to run.

    Numbers and such become placeholders; equal lines in succession become one, also
    around `...`.
    """
    lines = []
    for line in text.splitlines():
        for pattern, placeholder in ALIKE.items():
            line = re.sub(pattern, placeholder, line)
        if line.strip():
            lines.append(line.strip())
    lines = [line for line, _ in itertools.groupby(lines)]
    for index in reversed(range(1, len(lines) - 1)):
        if lines[index] == "..." and lines[index - 1] == lines[index + 1]:
            del lines[index : index + 2]
    return lines


def agrees(shown: str, printed: str) -> bool:
    """Whether a page's output has the form of a real one; `...` is any lines."""
    page, real = form(shown), form(printed)
    common = set(page) & set(real)
    page, real = (
        [line for line in lines if line in common or not SOMETIMES.match(line)]
        for lines in (page, real)
    )
    pattern = "".join(
        "(?:.*\n)*" if line == "..." else re.escape(f"{line}\n") for line in page
    )
    return bool(re.fullmatch(pattern, "".join(f"{line}\n" for line in real)))


@contextlib.contextmanager
def small_world():
    """Within the block there are 200 digits, and networks have fewer modules."""
    from sklearn import datasets, utils

    from keras_inception import GOOGLENET, GOOGLENET_SMALL

    digits = datasets.load_digits()
    few = utils.Bunch(images=digits.images[:200], target=digits.target[:200])
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            mock.patch.object(datasets, "load_digits", return_value=few)
        )
        for table in (GOOGLENET, GOOGLENET_SMALL):
            # the table is frozen, and many modules have imported it by name
            stack.callback(object.__setattr__, table, "rows", table.rows)
            rows = {n: row for n, row in table.rows.items() if n not in LEFT_OUT}
            object.__setattr__(table, "rows", rows)
        yield


def write_pictures(folder: Path) -> None:
    """Writes the picture files and folders that the pages speak of: a few digits."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = (digits.images * 15.9).astype("uint8")
    Image.fromarray(pictures[5]).resize((32, 32)).save(folder / "five.png")
    for index, pixels in enumerate(pictures[:200]):
        label = digits.target[index]
        for name in ("flowers/{}", "tinyimagenet20/{}/{}", "cifar10/{}/{}"):
            part = "val" if index % 4 == 0 else "train"
            parent = folder / name.format(*([part] if "}/{" in name else []), label)
            parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(pixels).convert("RGB").resize((32, 32))
            picture.save(parent / f"{index}.png")
    damaged = (folder / "flowers/3/3.png").read_bytes()[:-40]
    (folder / "flowers/3/damaged.png").write_bytes(damaged)
    lines = [f"{digit},{'even' if digit % 2 == 0 else 'odd'}" for digit in range(10)]
    table = "\n".join(["class,superclass", *lines, ""])
    (folder / "tinyimagenet20/superclasses.csv").write_text(table)


def _unfinished(run: Path, demo: Path) -> None:
    """Makes a run look as if it had been killed an epoch before its end."""
    if not run.exists():
        shutil.copytree(demo, run)
    config = json.loads((run / "config.json").read_text())
    config["epochs"] += 1
    (run / "config.json").write_text(json.dumps(config))
    (run / "result.json").unlink(missing_ok=True)


def update(page: Path) -> None:
    """Runs a page's commands on digits as they stand and rewrites what they show."""
    text = page.read_text()
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder))
        for block in blocks(page):
            if block.marker:
                continue
            if block.language == "python":
                with contextlib.chdir(folder):
                    exec(compile(block.text, "page", "exec"), workshop.names)
            if block.language != "console" or "digits" not in block.text:
                continue
            fresh = "".join(
                f"$ {command}\n{shortened(workshop.run(command, small=False), shown)}"
                for command, shown in block.commands
            )
            text = text.replace(f"```console\n{block.text}", f"```console\n{fresh}")
    page.write_text(text)


def shortened(printed: str, shown: str) -> str:
    """A new output, cut by `...` where the old one was."""
    old, new = shown.splitlines(), printed.splitlines()
    cuts = [index for index, line in enumerate(old) if line.strip() == "..."]
    if cuts:
        (cut,) = cuts
        new = [*new[:cut], old[cut], *new[len(new) - (len(old) - cut - 1) :]]
    return "".join(f"{line}\n" for line in new)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.path.insert(0, str(ROOT))
    for name in sys.argv[1:]:
        update(Path(name).resolve())
