"""Files whole or not at all, locks, and what people do to files by hand."""

import errno
import fcntl
import io
import json
import os
import re
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Literal, NotRequired, TypedDict

import pytest

import keras_inception_cli
from keras_inception import files, locks, schema
from keras_inception_cli import console


def test_several_writers_of_one_file(tmp_path):
    """Every write succeeds, and every read in between finds a whole file."""
    path, errors = tmp_path / "exits.json", []
    files.write_json(path, {"text": ""})

    def write(index):
        for _ in range(40):
            try:
                files.write_json(path, {"text": str(index) * 20_000})
            except OSError as error:
                errors.append(error)

    writers = [threading.Thread(target=write, args=(i,)) for i in range(3)]
    for thread in writers:
        thread.start()
    reads = 0
    while any(thread.is_alive() for thread in writers):
        assert len(set(files.read_json(path)["text"])) <= 1
        reads += 1
    assert not errors
    assert reads > 10
    assert os.listdir(tmp_path) == ["exits.json"]


def test_planted_links_are_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in (".partial-exits.json", "exits.json", "lock"):
        (tmp_path / name).symlink_to(victim)
    files.write_json(tmp_path / "exits.json", {})
    assert not (tmp_path / "exits.json").is_symlink()
    with (
        pytest.raises(OSError, match="symbolic links"),
        locks.locked(tmp_path / "lock"),
    ):
        pass
    assert victim.read_text() == "mine"


def test_a_failed_write_leaves_nothing(tmp_path):
    path = tmp_path / ("n" * 250 + ".json")  # as long as names may be
    files.write_json(path, {"kept": True})

    def fail(partial):
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"could not be written \(No space left"):
        files.write_whole(path, fail)
    assert files.read_json(path) == {"kept": True}
    assert os.listdir(tmp_path) == [path.name]


def test_a_planted_link_is_replaced_and_a_pipe_is_written_to(tmp_path):
    victim, link = tmp_path / "victim", tmp_path / "page.html"
    victim.write_text("mine")
    link.symlink_to(victim)
    files.write_text(link, "page")
    assert (link.read_text(), victim.read_text()) == ("page", "mine")
    assert not link.is_symlink()
    with pytest.raises(OSError, match=r"could not be written \(Is a directory"):
        files.write_text(tmp_path, "page")
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    read: list[str] = []
    reader.start()
    files.write_csv(pipe, ["name"], [["é"]])
    reader.join(5)
    assert read == ["name\né\n"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_no_module_writes_a_file_in_place():
    """Whatever does follows links that others planted."""
    fresh = {"model_card.py", "preparation.py"}  # of exports, renamed as a whole
    root = Path(files.__file__).parents[1]
    in_place = re.compile(r"\.write_(text|bytes)\(|savefig\(path")
    found = {
        path.name
        for package in ("keras_inception", "keras_inception_cli", "tuning")
        for path in (root / package).rglob("*.py")
        for line in path.read_text().splitlines()
        if in_place.search(line) and "partial" not in line and ">>>" not in line
    }
    assert found == fresh


def test_a_reader_keeps_nobody_out(tmp_path):
    lock, reading = tmp_path / "lock", threading.Event()
    lock.touch()

    def read():
        with locks.locked(lock, shared=True) as free:
            assert free
            reading.set()
            time.sleep(0.2)

    reader = threading.Thread(target=read)
    reader.start()
    reading.wait()
    with locks.locked(lock) as free:
        assert free
        assert not reader.is_alive() or reader.join(1) is None
        started = time.monotonic()
        with locks.locked(lock, shared=True) as seen, locks.locked(lock) as other:
            assert not seen
            assert not other
        assert time.monotonic() - started < 0.1


@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_named_once(name, tmp_path, monkeypatch, caplog):
    def refuse(*arguments):
        raise OSError(getattr(errno, name), "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "_warned", set())
    for _ in range(2):
        with locks.locked(tmp_path / "lock") as free:
            assert free
        with locks.locked(tmp_path / "lock", shared=True) as free:
            assert free
        files.write_json(tmp_path / "x.json", {})
    assert len(caplog.messages) == 1
    assert "file system without locks" in caplog.text


class Content(TypedDict):
    epochs: Annotated[int, schema.Range(1, 9)]
    rates: NotRequired[float | dict[str, float]]
    names: NotRequired[list[str] | None]
    pair: NotRequired[tuple[int, int]]
    kind: NotRequired[Literal["a", "b"]]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("words", "it is not a JSON file"),
        ("[" * 100_000, "it is not a JSON file"),
        ("\udcff", "it is not a JSON file"),
        ("[]", "it is []; expected an object"),
        ("null", "it is null; expected an object"),
        ("{}", "epochs is missing"),
        ('{"epochs": true}', "epochs is true; expected a whole number from 1 to 9"),
        ('{"epochs": 2.0}', "epochs is 2.0; expected a whole number from 1 to 9"),
        ('{"epochs": 10}', "epochs is 10; expected a whole number from 1 to 9"),
        (
            '{"epochs": 1, "rates": "\\u001b[31m"}',
            'rates is "\\u001b[31m"; expected a number or an object',
        ),
        (
            '{"epochs": 1, "rates": {"aux": [1]}}',
            "rates.aux is [1]; expected a number",
        ),
        (
            f'{{"epochs": 1, "rates": 1{"0" * 400}}}',
            f"rates is 1{'0' * 56}...; expected a number or an object",
        ),
        ('{"epochs": 1, "names": ["a", 1]}', "names[1] is 1; expected text"),
        ('{"epochs": 1, "names": 1}', "names is 1; expected a list or null"),
        ('{"epochs": 1, "pair": [1]}', "pair has 1 entries; expected 2"),
        ('{"epochs": 1, "kind": "c"}', 'kind is "c"; expected one of a, b'),
    ],
)
def test_a_damaged_file_is_named_with_field_value_and_expectation(
    text, fault, tmp_path
):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError) as error:  # noqa: PT011, compared whole
        files.read_json(path, Content, "is not my file")
    assert str(error.value) == f"{path} is not my file: {fault}."


def test_a_file_as_editors_save_it_is_read(tmp_path):
    path = tmp_path / "x.json"
    content = {"epochs": 3, "rates": {"aux": 1}, "names": None, "pair": [1, 2], "x": 1}
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    assert files.read_json(path, Content) == content


@pytest.mark.parametrize(
    ("encoding", "text", "shown"),
    [
        ("utf-8", "猫 café \udcff", "猫 café \\udcff"),
        ("cp1252", "猫 café", "\\u732b café"),
        ("ascii", "猫 café", "\\u732b caf\\xe9"),
        ("utf-8", "\x1b[31mred\x07\x9b1m\x7f", "\\x1b[31mred\\x07\\x9b1m\\x7f"),
        ("utf-8", "safe\u202egnp.exe\u2028", "safe\\u202egnp.exe\\u2028"),
        ("utf-8", "over\rwritten", "over\\rwritten"),
        ("utf-8", "a\tb\nc", "a\tb\nc"),
        ("utf-8", "\r 50%|#####", "\r 50%|#####"),  # a progress bar
    ],
)
def test_names_reach_the_terminal_escaped(encoding, text, shown, monkeypatch):
    for name in ("stdout", "stderr"):
        written = io.BytesIO()
        stream = io.TextIOWrapper(written, encoding=encoding, newline="")
        monkeypatch.setattr(sys, name, stream)
        with console.safe_output():
            print(text, end="", file=getattr(sys, name), flush=True)
        assert getattr(sys, name) is stream
        assert written.getvalue().decode(encoding) == shown


def test_an_error_is_one_escaped_line(capsys):
    def fail():
        raise ValueError("no layer \x1b[2J\n猫")

    assert keras_inception_cli.status_of("program", fail) == 1
    assert capsys.readouterr().err == "program: error: no layer \\x1b[2J 猫\n"

    def fail_to_import():
        import no_such_package  # noqa: F401

    assert keras_inception_cli.status_of("program", fail_to_import) == 1
    error = capsys.readouterr().err
    assert error == "program: error: No module named 'no_such_package'\n"


def test_windows_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert keras_inception_cli.main(["runs"]) == 1
    error = capsys.readouterr().err
    assert error == "keras-inception: error: Windows is not supported; use WSL\n"
    monkeypatch.delitem(sys.modules, "keras_inception.locks")
    with pytest.raises(ImportError, match="on Windows, use WSL"):
        import keras_inception.locks  # noqa: F401
