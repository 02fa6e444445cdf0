"""`keras-inception predict`: what it reads, what it answers, how it fails."""

import contextlib
import csv
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
from conftest import small_supervised
from PIL import Image

import keras_inception as ki
import keras_inception_cli
from keras_inception.data.pictures import load_picture
from keras_inception_cli import predict_remote
from keras_inception_cli.predict_inputs import PassedOver, find
from keras_inception_cli.predict_report import Answer, print_answer

NAMES = ["ant", "bee, wild", "日"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model as a file and as an export, and a folder of pictures and other files."""
    root = tmp_path_factory.mktemp("predict")
    model = small_supervised()
    model.class_names = NAMES
    model.save(root / "model.keras")
    ki.export.export_saved_model(model, root / "saved")
    for name in ("a.png", "x[1].png", "sub/c.jpg", "sub/.git/d.png", "__MACOSX/e.png"):
        picture(root / "pictures" / name)
    picture(root / "pictures/t.dat", "tiff")
    (root / "pictures/notes.txt").write_text("words")
    (root / "pictures/sub/loop").symlink_to("..")
    (root / "bad").mkdir()
    whole = (root / "pictures/a.png").read_bytes()
    (root / "bad/cut.png").write_bytes(whole[:-20])
    (root / "bad/inside.png").write_bytes(whole[:60] + bytes(20) + whole[80:])
    (root / "bad/words.jpg").write_text("words")
    return root


def picture(path, kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(str(path.name)))
    pixels = random.integers(0, 256, (9, 12, 3), "uint8")
    Image.fromarray(pixels).save(path, kind)


def predict(*words):
    return keras_inception_cli.main(["predict", *map(str, words)])


@pytest.fixture
def answers(capsys):
    """Runs `predict --json`: status, scores or error by picture, lines on stderr."""

    def run(*words):
        status = predict(*words, "--json")
        captured = capsys.readouterr()
        found = {}
        for line in captured.out.splitlines():
            answer = json.loads(line)
            found[answer["image"]] = answer.get("classes") or answer["error"]
        return status, found, captured.err.splitlines()

    return run


def test_a_file_and_its_export_answer_a_folder_like_the_model(place, answers):
    model = keras.saving.load_model(place / "model.keras")
    folder = place / "pictures"
    paths = [str(folder / x) for x in ("a.png", "sub/c.jpg", "t.dat", "x[1].png")]
    images = np.stack([load_picture(path, 8) for path in paths])  # as evaluation does
    expected = model.predict(images, verbose=0)["main"]
    assert np.ptp(expected, axis=0).max() > 0.01
    for name, *batch in (
        ("model.keras",),
        ("model.keras", "--batch-size", 3),
        ("saved",),
        ("saved/1", "--batch-size", 1),
    ):
        status, found, errors = answers(place / name, folder, *batch)
        assert status == 0
        assert list(found) == paths
        for row, scores in zip(expected, found.values(), strict=True):
            best = np.argsort(-row)
            assert list(scores) == [NAMES[index] for index in best]
            assert list(scores.values()) == pytest.approx(list(row[best]), abs=1e-6)
        (line,) = errors
        assert line == (
            "passed over: 1 made by a system or a program; 1 hidden, or in a hidden "
            "folder; 1 not pictures (1 .txt)"
        )


@pytest.mark.parametrize("model", ["model.keras", "saved"])
def test_bad_pictures_are_reported_and_the_others_answered(
    place, answers, tmp_path, model
):
    good = [str(place / "pictures/a.png"), str(place / "pictures/x[1].png")]
    faults = {
        str(place / "bad/cut.png"): "its contents are damaged: the end is missing",
        str(place / "bad/inside.png"): "its contents are damaged",
        str(place / "bad/words.jpg"): "its contents are not a picture",
        str(tmp_path / "none.png"): "there is no such file or folder",
        str(tmp_path / "*.png"): "no file matches this pattern",
        str(tmp_path): "there is no picture in it",
        "file:///etc/hostname": "only http:// and https:// addresses are read",
        "ftp://127.0.0.1/a.png": "only http:// and https:// addresses are read",
        os.devnull: "it is not a regular file",
    }
    table = tmp_path / "answers.csv"
    words = [good[0], place / "bad", *list(faults)[3:], good[1]]
    status, found, errors = answers(place / model, *words, "--csv", table, "--top", 2)
    assert status == 1
    assert set(found) == {*good, *faults}
    assert all(len(found[name]) == 2 for name in good)
    assert {name: found[name][: len(fault)] for name, fault in faults.items()} == faults
    assert errors[-1] == f"wrote {table}"
    for line, name in zip(errors[:-1], [x for x in found if x in faults], strict=True):
        assert line == f"keras-inception: error: {name}: {found[name]}"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = ["class_1", "score_1", "class_2", "score_2"]
    assert list(rows[0]) == ["picture", *pairs, "error"]
    assert [row["picture"] for row in rows] == list(found)
    for row in rows:
        if row["picture"] in good:
            answer = found[row["picture"]]
            assert [row["class_1"], row["class_2"]] == list(answer)
            assert float(row["score_2"]) == pytest.approx(
                list(answer.values())[1], 1e-4
            )
            assert row["error"] == ""
        else:
            assert {row[name] for name in pairs} == {""}
            assert row["error"] == found[row["picture"]]


def test_odd_names_keep_to_their_line(place, tmp_path, capsys, answers):
    odd = [b"a\nb.png", b"\xff.png", b"-n.png", "日 ü.png".encode()]
    for name in odd:
        os.link(place / "pictures/a.png", os.fsencode(tmp_path) + b"/" + name)
    table = tmp_path / "x.csv"
    assert predict(place / "model.keras", tmp_path, "--top", 1, "--csv", table) == 0
    captured = capsys.readouterr()
    *lines, wrote = captured.out.splitlines()
    captured.out.encode()  # a terminal's
    shown = [r"-n.png", r"a\nb.png", "日 ü.png", r"\udcff.png"]
    assert [line.split(": ")[0] for line in lines] == [f"{tmp_path}/{x}" for x in shown]
    assert wrote == f"wrote {table}"
    with table.open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4
    _, found, _ = answers(place / "model.keras", tmp_path)
    assert {os.fsencode(os.path.basename(name)) for name in found} == set(odd)


def test_what_a_word_means(tmp_path, monkeypatch):
    files = (
        "a.png",
        "b[1].png",
        "b1.png",
        "d [2]/e.png",
        "d [2]/.f/g.png",
        "h/i/j.jpg",
    )
    for name in (*files, "h/k.txt", "h/@eaDir/l.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "h/i/loop").symlink_to("..")
    monkeypatch.chdir(tmp_path)
    deep = ["a.png", "b1.png", "b[1].png", "d [2]/e.png"]
    for word, expected in {
        "a.png": ["a.png"],
        "b[1].png": ["b[1].png"],  # a file of this name, not b1.png
        "?.png": ["a.png"],
        "b*.png": ["b1.png", "b[1].png"],
        "d [2]/*.png": ["d [2]/e.png"],
        "d [2]": ["d [2]/e.png"],
        "d*/.f/*": ["d [2]/.f/g.png"],
        "**/*.png": deep,
        "h/**/*.*": ["h/i/j.jpg", "h/k.txt"],
        "**/i/*": ["h/i/j.jpg"],
        "*/i": ["h/i/j.jpg"],
        str(tmp_path / "*.png"): [f"{tmp_path}/{name}" for name in deep[:3]],
        "h/": ["h/i/j.jpg", "h/k.txt"],
        "http://h/*.png": ["http://h/*.png"],
    }.items():
        assert [x.name for x in find([word], PassedOver())] == expected, word
        assert not any(x.fault for x in find([word], PassedOver()))
    for word in ("z.png", "a.png/*", "z/*.png", "[", "s3://bucket/a.png", ""):
        (picture,) = find([word], PassedOver())
        assert picture.fault, word


def test_a_search_does_not_wait_for_its_end(tmp_path):
    for number in range(100):
        (tmp_path / f"{number}.png").touch()
    pictures = find([str(tmp_path)], PassedOver())
    assert next(pictures).name.endswith("/0.png")
    assert sum(1 for _ in pictures) == 99


class Pictures(http.server.BaseHTTPRequestHandler):
    """A picture, and everything else that an address may answer."""

    contents = b""

    def do_GET(self):
        answer = getattr(self, self.path.strip("/").split("?")[0], None)
        with contextlib.suppress(ConnectionError):
            answer() if answer else self.send_error(404)

    def _begin(self, kind="image/png", length=None, status=200, **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", length)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def good(self):
        self._begin("application/octet-stream", len(self.contents))
        self.wfile.write(self.contents)

    def moved(self):
        self._begin(status=302, Location="/good?size=large")

    def page(self):
        self._begin("text/html")
        self.wfile.write(b"<html></html>")

    def words(self):
        self._begin("image/png")
        self.wfile.write(b"words")

    def drip(self):
        self._begin(length=1000)
        for _ in range(1000):
            self.wfile.write(b"x")
            time.sleep(0.1)

    def silent_drip(self):  # in the header, which ends with an empty line
        self.send_response(200)
        self.flush_headers()
        while True:
            self.wfile.write(b"X-Wait: 1\r\n")
            time.sleep(0.1)

    def endless(self):
        self._begin()
        while True:
            self.wfile.write(bytes(10_000))

    def announced(self):
        self._begin(length=10**12)

    def cut(self):
        self._begin(length=len(self.contents) + 1)
        self.wfile.write(self.contents)

    def to_a_file(self):
        self._begin(status=302, Location="file:///etc/hostname")

    def to_ftp(self):
        self._begin(status=302, Location="ftp://127.0.0.1/a.png")

    def circle(self):
        self._begin(status=302, Location="/circle")

    def log_message(self, *_):
        pass


@pytest.fixture
def address(place):
    Pictures.contents = (place / "pictures/a.png").read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_addresses_are_fetched_within_limits(place, address, answers, monkeypatch):
    monkeypatch.setattr(predict_remote, "SECONDS", 1.0)
    monkeypatch.setattr(predict_remote, "MOST_BYTES", 2**20)
    faults = {
        f"{address}/none": "answers 404: Not Found",
        f"{address}/page": "the address is a page (text/html), not a picture",
        f"{address}/words": "its contents are not a picture",
        f"{address}/drip": "no complete answer within 1 s",
        f"{address}/silent_drip": "no complete answer within 1 s",
        f"{address}/endless": "it is larger than the limit of 1 MiB",
        f"{address}/announced": "it is larger than the limit of 1 MiB",
        f"{address}/cut": "the connection ended before the last byte",
        f"{address}/to_a_file": "answers 302: ",
        f"{address}/to_ftp": "unknown url type: ftp",
        f"{address}/circle": "answers 302: ",
        "http://127.0.0.1:9/a.png": "[Errno 111] Connection refused",
        "http://127.0.0.1:x/a.png": "nonnumeric port: 'x'",
        "http:///a.png": "no host given",
    }
    good = [f"{address}/good", f"{address}/moved", f"{address}/good?a b=ü"]
    file = str(place / "pictures/a.png")
    began = time.monotonic()
    status, found, errors = answers(
        place / "model.keras", good[0], *faults, *good[1:], file
    )
    assert time.monotonic() - began < 10
    assert status == 1
    assert len(errors) == len(faults)
    assert list(found) == [good[0], *faults, *good[1:], file]
    assert {name: found[name][: len(fault)] for name, fault in faults.items()} == faults
    assert all(found[name] == found[file] for name in good)


@pytest.mark.parametrize("file", ["model.onnx", "model.xml", "model.tflite"])
def test_an_export_for_another_runtime_is_named(file, tmp_path, capsys):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / file).touch()
    for model in (tmp_path, tmp_path / "1", tmp_path / "1" / file):
        assert keras_inception_cli.main(["predict", str(model), "a.png"]) == 1
        error = capsys.readouterr().err
        assert f"{tmp_path / '1'}" in error
        assert "is an export in the format" in error


def test_of_two_classes_with_one_name_the_better_one_counts(capsys):
    ranking = [("crane", 0.6), ("owl", 0.3), ("crane", 0.1)]
    print_answer(Answer("a.png", ranking), as_json=True)
    assert json.loads(capsys.readouterr().out)["classes"] == {"crane": 0.6, "owl": 0.3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m.keras"], "predict needs a MODEL and at least one PATH"),
        (["{place}/none.keras", "a.png"], "There is no model"),
        (["{place}/bad", "a.png"], "no exported model"),
        (["{place}/bad/words.jpg", "a.png"], "is not a .keras model file"),
        (["http://h/v1/models/m", "a.png"], "by --url http://h/v1/models/m"),
        (["--url", "http://h", "a.png"], "--url takes http://HOST:PORT/v1/models/NAME"),
        (
            ["--url", "http://h/v1/models/m", "a", "--batch-size", "2"],
            "--batch-size is",
        ),
        (["m.keras", "a.png", "--top", "0"], "--top must be at least 1"),
        (["m.keras", "a.png", "--batch-size", "0"], "--batch-size must be at least 1"),
        (["m.keras", "a.png", "--csv", "{place}/no/x.csv"], "Create it first"),
        (["m.keras", "a.png", "--csv", "{place}"], "is a folder"),
    ],
)
def test_bad_words_are_one_line(place, capsys, words, message):
    assert predict(*(word.format(place=place) for word in words)) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("keras-inception: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("predict M --top 1 IMG", {"model": "M", "paths": ["IMG"], "top": 1}),
        ("predict --url U a --top 2 b", {"model": "a", "paths": ["b"], "url": "U"}),
        ("predict M --json -- -x.png", {"paths": ["./-x.png"], "json": True}),
        ("gradients --seed 4 -- -m -d", {"model": "./-m", "data": "./-d", "seed": 4}),
        ("evaluate M --crops 10 N D", {"models": ["M", "N"], "data": "D"}),
        ("evaluate M N --seed 1 D", {"models": ["M", "N"], "data": "D"}),
        ("convert slim --overwrite A B.keras", {"kind": "slim", "file": "A"}),
        ("runs compare a --json f b", {"compared": ["a", "b"]}),
        ("export --name x M", {"model": "M", "name": "x"}),
        ("train --epochs 3 D", {"data": "D", "epochs": 3}),
    ],
)
def test_options_stand_anywhere(monkeypatch, words, expected):
    for module in keras_inception_cli.COMMANDS.values():
        monkeypatch.setattr(module, "run", lambda options: got.update(vars(options)))
    got: dict = {}
    assert keras_inception_cli.main(words.split()) == 0
    assert got | expected == got


def test_a_server_is_asked_without_the_seconds_of_tensorflow(place):
    code = (
        "import sys, keras_inception_cli\n"
        "assert keras_inception_cli.main(sys.argv[1:]) == 1\n"
        "assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)\n"
    )
    words = ["predict", "--url", "http://127.0.0.1:9/v1/models/x"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, place / "pictures/a.png"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "No server at http://127.0.0.1:9/v1/models/x: " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_closed_pipe_ends_the_command_silently(place, monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        status = predict(place / "model.keras", place / "pictures/a.png")
    assert status == 1
    assert capsys.readouterr().err == ""


def test_the_bar_counts_what_is_found(place, tmp_path, monkeypatch):
    for number in range(20):
        os.link(place / "pictures/a.png", tmp_path / f"{number}.png")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    assert predict(place / "model.keras", tmp_path, "--batch-size", 4) == 0
    assert "/20 [" in keras_inception_cli.predict.sys.stderr.getvalue()
