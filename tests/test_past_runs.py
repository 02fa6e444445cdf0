"""`runs` and `runs compare` on real run directories."""

import fcntl
import json
import re
import shutil
import subprocess
import sys
import time
import zipfile

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
            # as some editors save it
            (self.path / "copy").write_bytes((self.path / "config.json").read_bytes())
            (self.path / "copy").rename(self.path / "config.json")
            assert past_runs.read_run(self.path).state == "running"
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


def edited(text):
    return lambda path: path.write_bytes(text.encode(errors="surrogateescape"))


def edited_json(**changes):
    def edit(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def edited_state(**changes):
    """Changes run_state.json in a checkpoint."""

    def edit(path):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        state = json.loads(members["run_state.json"]) | changes
        members["run_state.json"] = json.dumps(state).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return edit


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-2000])


def flipped(path):
    """Inverts bytes in the middle, so that checksums differ."""
    data = bytearray(path.read_bytes())
    middle = data.index(b"run_state.json") + 30
    data[middle : middle + 9] = bytes(byte ^ 255 for byte in data[middle : middle + 9])
    path.write_bytes(data)


HISTORY = "epoch,val_main_accuracy\n"


@pytest.mark.parametrize(
    ("name", "edit", "fault"),
    [
        ("result.json", edited("[]"), "it is []; expected an object"),
        ("result.json", edited_json(seconds=None), "seconds is null; expected a num"),
        ("result.json", edited_json(seconds=1e300), "seconds is 1e+300; expected"),
        ("result.json", edited_json(val_main_accuracy="1"), 'val_main_accuracy is "1"'),
        ("result.json", edited_json(best_epoch=[1]), "best_epoch is [1]; expected a"),
        ("config.json", edited("\udcff"), "it is not a JSON file"),
        ("config.json", edited_json(heads=None), "heads is null; expected a list"),
        ("config.json", edited_json(epochs="3"), 'epochs is "3"; expected a whole'),
        ("config.json", edited_json(recipe=[]), "recipe is []; expected text or null"),
        (
            "history.csv",
            edited(HISTORY + "0," + "1" * 200_000),
            "not a CSV file (field",
        ),
        ("history.csv", edited(HISTORY + "0,high"), "'val_main_accuracy' in line 2 is"),
        ("history.csv", edited(HISTORY + "0"), "line 2 has 1 cells; expected 2"),
        ("history.csv", edited(HISTORY + "0,1,2"), "line 2 has 3 cells; expected 2"),
        ("history.csv", edited(HISTORY + "0,\0"), "is not the history of a run"),
        ("latest.keras", edited(""), "is not a checkpoint of a run"),
        ("latest.keras", cut_short, "is not a checkpoint of a run"),
        ("latest.keras", flipped, "is not a checkpoint of a run"),
        ("latest.keras", edited_state(epochs="2"), 'epochs is "2"; expected a whole'),
        ("latest.keras", edited_state(seconds=None), "seconds is null; expected a nu"),
        ("latest.keras", edited_state(best=[1]), "best is [1]; expected an object"),
        ("latest.keras", edited_state(history={}), "history is {}; expected a list"),
        ("latest.keras", edited_state(alarms={"told": 1}), "alarms.told is 1; expec"),
        ("latest.keras", edited_state(history=[{"loss": []}]), "history[0].loss is []"),
    ],
)
def test_a_damaged_file_is_one_line(runs, tmp_path, capsys, name, edit, fault):
    which = "killed" if name == "latest.keras" else "with-heads"
    for copied in (which, "good"):
        shutil.copytree(runs / which, tmp_path / copied)
    edit(tmp_path / which / name)
    assert command("runs", "--runs", tmp_path) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"{which}: {tmp_path / which / name} is not ")
    assert fault in line
    commands = [["runs", "compare", which, "good", "--runs", tmp_path]]
    if name == "config.json":
        commands.append(["train", "--config", tmp_path / which / name])
    if name in ("config.json", "result.json"):
        model = tmp_path / which / "model.keras"
        commands.append(["export", model, "--saved-models", tmp_path])
    for words in commands:
        assert command(*words) == 1
        error = capsys.readouterr().err
        assert fault in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ("[]", "hyperparameters is []; expected an object"),
        ('{"lr": true}', "names 'lr'; expected some of heads, aux_weight"),
        ('{"learning_rate": true}', "learning_rate is true; expected a number"),
        ('{"head_width": 1e9}', "head_width is 1000000000.0; expected a number from"),
        ('{"heads": "inception_4a"}', 'heads is "inception_4a"; expected a list'),
        ('{"aux_weight": {"aux_4a": "x"}}', 'aux_weight.aux_4a is "x"; expected a nu'),
        ('{"head_batch_norm": 1}', "head_batch_norm is 1; expected true or false"),
    ],
)
def test_a_damaged_search_result_is_one_line(options, fault, tmp_path, capsys):
    file = tmp_path / "best.json"
    file.write_text(f'{{"hyperparameters": {options}}}')
    assert command("train", "digits", "--hyperparameters", file) == 1
    error = capsys.readouterr().err
    assert f"{file} is not the best.json of a search" in error
    assert fault in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"width": 1e9}, "width is 1000000000.0; expected a number from 0 to 100"),
        ({"batch_size": "32"}, 'batch_size is "32"; expected a whole number'),
        ({"learning_rate": True}, "learning_rate is true; expected a number"),
        ({"aux_weight": ["0.3"]}, 'aux_weight is ["0.3"]; expected a number or an'),
        ({"profile": [1]}, "profile has 1 entries; expected 2"),
        ({"mixed_precision": "int8"}, "expected one of float16, bfloat16"),
    ],
)
def test_a_damaged_setting_is_one_line(change, fault, tmp_path, capsys):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"data": "digits", "epochs": 1, "heads": []} | change))
    assert command("train", "--config", file) == 1
    error = capsys.readouterr().err
    assert f"{file} is not the config.json of a run" in error
    assert fault in error


def test_overwriting_deletes_what_a_run_made(runs, tmp_path):
    path, victim = tmp_path / "run", tmp_path / "precious"
    shutil.copytree(runs / "with-heads", path)
    victim.mkdir()
    for file in (victim / "x", path / "notes.txt", path / "exits.json"):
        file.write_text("mine")
    (path / "photos").mkdir()
    shutil.rmtree(path / "tensorboard", ignore_errors=True)
    (path / "tensorboard").symlink_to(victim)
    (path / ".partial-model.keras").write_text("as earlier versions left it")
    training.RunDirectory.create(path, overwrite=True)
    assert {entry.name for entry in path.iterdir()} == {"notes.txt", "photos"}
    assert (victim / "x").is_file()


@pytest.mark.parametrize("content", ['{"name": "app"}', "words", None])
def test_overwriting_refuses_other_directories(content, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    (tmp_path / "model.keras").write_text("precious")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileExistsError, match="is not a training run"):
        training.RunDirectory.create(tmp_path, overwrite=True)
    assert sorted(tmp_path.iterdir()) == before


def test_one_of_two_starts_trains(tmp_path):
    config = training.RunConfig("small", 1, ())
    first, second = (
        training.RunDirectory.create(tmp_path / "run", overwrite=True) for _ in "ab"
    )
    with first.hold():
        first.begin(config)
        with pytest.raises(RuntimeError, match="Another process"), second.hold():
            pass
    with second.hold(), pytest.raises(FileExistsError, match="in the meantime"):
        second.begin(config)


def test_earlier_versions_runs_are_recognized(tmp_path):
    """They locked config.json, and have no lock file."""
    run = training.RunDirectory(tmp_path)
    run.begin(training.RunConfig("small", 1, ()))
    assert not run.is_held()
    with run.config.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run.is_held()
    with run.hold():
        assert run.is_held()


def test_a_path_that_is_not_utf8_is_refused_first(tmp_path):
    with pytest.raises(ValueError, match=r"UTF-8. Received: '.*udcff'"):
        training.RunDirectory.create(tmp_path / "\udcff")


@pytest.mark.slow
def test_of_two_commands_a_second_apart_one_trains(tmp_path):
    """While `runs` reads as fast as it can, which must keep nobody out."""
    words = ["train", "digits", "--name", "x", "--runs", tmp_path, "--overwrite"]
    words += ["--epochs", 3, "--width", 0.125, "--heads"]
    start = [sys.executable, "-m", "keras_inception_cli", *map(str, words)]
    for _ in range(2):  # the second time over a finished run
        children = []
        for _ in range(2):
            children.append(
                subprocess.Popen(
                    start,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            time.sleep(1)
        states = set()
        while any(child.poll() is None for child in children):
            states.update(run.state for run in past_runs.read_runs(tmp_path)[0])
            time.sleep(0.001)
        errors = [child.communicate()[1] for child in children]
        assert sorted(child.returncode for child in children) == [0, 1], errors
        refused = errors[0] if children[0].returncode else errors[1]
        assert "keras-inception: error: Another process" in refused
        assert "running" in states
        run = past_runs.read_run(tmp_path / "x")
        assert (run.state, run.epochs) == ("finished", 3)
        assert len(list(run.path.glob("tensorboard/train/events*"))) == 1
