"""`runs` and `runs compare` on real run directories."""

import json
import re

import keras
import pytest
from conftest import small_pictures, small_supervised
from PIL import Image

import keras_inception_cli
from keras_inception import training
from keras_inception.training import past_runs


def command(*words):
    return keras_inception_cli.main([str(word) for word in words])


class Watch(keras.callbacks.Callback):
    """Reads the run while it trains, and interrupts it if asked to."""

    def __init__(self, path, killed):
        super().__init__()
        self.path, self.killed = path, killed

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            self.state = past_runs.read_run(self.path).state
            with pytest.raises(RuntimeError, match="Another process is training"):
                training.RunDirectory.create(self.path, overwrite=True)
            with pytest.raises(RuntimeError, match="Another process is training"):
                training.RunDirectory.open(self.path).check_resumable()
            if self.killed:
                raise KeyboardInterrupt


def train(path, killed=False, **settings):
    data = small_pictures()
    model = small_supervised(loss_weights=settings["aux_weight"])
    batches = keras_data(*data)
    config = training.RunConfig(
        "small", 3, ("first",), recipe="small", settings=settings
    )
    run = training.RunDirectory.create(path)
    watch = Watch(path, killed)
    arguments = {"config": config, "callbacks": [watch]}
    if killed:
        with pytest.raises(KeyboardInterrupt):
            training.train(model, batches, batches, run, **arguments)
    else:
        training.train(model, batches, batches, run, **arguments)
    return watch.state


def keras_data(images, labels):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(6)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    assert train(root / "with-heads", aux_weight=0.3) == "running"
    assert train(root / "killed", killed=True, aux_weight=0.1) == "running"
    (root / "broken").mkdir()
    (root / "broken/config.json").write_text("words")
    (root / "no-run").mkdir()
    return root


def test_runs_are_listed(runs, tmp_path, capsys):
    assert command("runs", "--runs", runs, "--json", tmp_path / "runs.json") == 0
    out = capsys.readouterr().out.splitlines()
    assert " ".join(out[0].split()) == "run recipe epochs best heads time state"
    result = json.loads((runs / "with-heads/result.json").read_text())
    best = f"{result['val_main_accuracy']:.4f} in {result['best_epoch']}"
    killed, finished = (re.split("  +", line) for line in out[1:3])
    assert [finished[0], finished[-1]] == ["with-heads", "finished"]
    assert {"small", "3/3", best, "first"} <= set(finished)
    assert [killed[0], killed[-1]] == ["killed", "interrupted"]
    assert "2/3" in killed
    assert out[3].startswith("broken: ")
    assert "is not a JSON file" in out[3]
    written = json.loads((tmp_path / "runs.json").read_text())
    assert [run["state"] for run in written["runs"]] == ["interrupted", "finished"]
    assert written["runs"][1]["outputs"].keys() == {"main", "aux"}


def test_runs_are_compared(runs, tmp_path, capsys):
    words = ["runs", "compare", "with-heads", runs / "killed", "--runs", runs]
    picture = tmp_path / "both.png"
    words += ["--output", picture, "--json", tmp_path / "both.json"]
    assert command(*words) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["with-heads", "killed"]
    assert ["state", "finished", "interrupted"] in rows
    assert ["aux_weight", "0.3", "0.1"] in rows
    assert not any(row[0] == "heads" for row in rows)  # they are the same
    history = past_runs.read_run(runs / "with-heads").history
    for output in ("main", "aux"):
        last = f"{history[f'val_{output}_accuracy'][-1]:.4f}"
        assert [f"{output},", "last", last] in [row[:3] for row in rows]
    figures = json.loads((tmp_path / "both.json").read_text())
    assert figures["settings"] == {"aux_weight": [0.3, 0.1]}
    final = figures["runs"][0]["outputs"]["main"]["last"]
    assert final == history["val_main_accuracy"][-1]
    with Image.open(picture) as image:
        assert image.format == "PNG"
        colors = {color for _, color in image.convert("RGB").getcolors(1 << 20)}
    # matplotlib's first two colors: a line for each run
    assert {(0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)} <= colors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs", "--runs", "{tmp}/none"], "There is no folder"),
        (["runs", "compare", "one", "--runs", "{tmp}"], "needs two runs or more"),
        (["runs", "compare", "one", "two", "--runs", "{tmp}"], "There is no run in"),
        (["runs", "--runs", "{tmp}", "--json", "{tmp}/no/x.json"], "Create it first"),
        (["runs", "--runs", "{tmp}", "--json", "{tmp}"], "is a folder"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, capsys):
    assert command(*(word.format(tmp=tmp_path) for word in words)) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_no_runs_yet(tmp_path, capsys):
    assert command("runs", "--runs", tmp_path) == 0
    assert capsys.readouterr().out == f"There are no runs in {tmp_path}.\n"


@pytest.mark.parametrize("content", ["[]", "{}", '{"data": "x", "epochs": 1}', "null"])
def test_a_damaged_config_is_one_line(content, tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/config.json").write_text(content)
    (tmp_path / "y").mkdir()
    heads = {"data": "x", "epochs": 1, "heads": None}
    (tmp_path / "y/config.json").write_text(json.dumps(heads))
    assert command("runs", "--runs", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["x", "y"]
    assert all("is not the config.json of a run" in line for line in lines)
