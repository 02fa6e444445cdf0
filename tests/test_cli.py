"""The commands as a person types them, in one process."""

import argparse
import contextlib
import csv
import io
import json
import re
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import colorful_folders, logged, small_supervised
from PIL import Image

import keras_inception as ki
import keras_inception_cli
from keras_inception import training
from keras_inception_cli import train_options
from keras_inception_cli.train_config import TrainConfig


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, colors):
    """A finished run, what it printed, and its export, made by the commands."""
    root = tmp_path_factory.mktemp("workplace")
    arguments = ["--runs", root / "runs", "--name", "colors", "--width", "0.125"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        arguments += ["--epochs", "3", "--batch-size", 8]
        assert command("train", colors, *arguments) == 0
    (root / "printed.txt").write_text(printed.getvalue())
    model = root / "runs/colors/model.keras"
    assert command("export", model, "--saved-models", root / "saved") == 0
    return root


def command(*words):
    return keras_inception_cli.main([str(word) for word in words])


def test_an_interrupted_command_says_so(capsys):
    def interrupt():
        raise KeyboardInterrupt

    assert keras_inception_cli.status_of("keras-inception", interrupt) == 130
    assert capsys.readouterr().err == "keras-inception: interrupted\n"


def _read_damaged_records(file):
    list(tf.data.TFRecordDataset(str(file)))


def _read_damaged_records_in_a_graph(file):
    data = tf.data.TFRecordDataset(str(file))
    tf.function(lambda: data.reduce(0, lambda n, _: n + 1))()


def _need_more_memory_than_there_is(file):
    tf.function(lambda n: tf.random.uniform((n, n)))(tf.constant(2**20))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (_read_damaged_records, r"corrupted record at 0 .*DataLossError.*--data-dir"),
        (_read_damaged_records_in_a_graph, r"corrupted record at 0 .*DataLossError"),
        (_need_more_memory_than_there_is, r"OOM when allocating .*smaller --batch"),
    ],
)
def test_an_error_of_tensorflow_is_one_line(run, message, tmp_path, capsys):
    (tmp_path / "records").write_bytes(bytes(100))
    assert keras_inception_cli.status_of("x", lambda: run(tmp_path / "records")) == 1
    err = capsys.readouterr().err
    assert re.fullmatch(rf"x: error: TensorFlow: {message}.*\n", err)
    assert not any(part in err for part in ("{{", "[[", "[Op", "File"))


def test_an_error_is_one_line_without_tensorflow_too(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "tensorflow")
    for error in (ValueError("a\nb"), MemoryError()):

        def fail(error=error):
            raise error

        assert keras_inception_cli.status_of("x", fail) == 1
    assert capsys.readouterr().err == "x: error: a b\nx: error: MemoryError\n"


def test_train_leaves_a_run_directory(workplace, colors):
    run = workplace / "runs/colors"
    names = {"config.json", "history.csv", "model.keras", "latest.keras"}
    names |= {"result.json", "tensorboard", "pictures.csv"}
    assert {entry.name for entry in run.iterdir()} == names
    config = json.loads((run / "config.json").read_text())
    assert config["class_names"] == ["blue", "red"]
    assert config["architecture"] == "googlenet_small"
    assert config["data"] == str(colors)
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert {"val_main_accuracy", "aux_4a_loss", "val_aux_4d_accuracy"} <= set(rows[0])
    result = json.loads((run / "result.json").read_text())
    best = max(float(row["val_main_accuracy"]) for row in rows)
    assert result["val_main_accuracy"] == pytest.approx(best)
    events = list(run.rglob("events.out.tfevents.*"))
    assert len(events) == 3  # training, validation, and the settings
    model = keras.saving.load_model(run / "model.keras")
    assert model.class_names == ["blue", "red"]


@pytest.mark.slow  # test_runs.py resumes, without the command
def test_an_interrupted_run_is_resumed_by_its_name(
    workplace, colors, tmp_path, monkeypatch, capsys
):
    begin = training.Progress.on_epoch_begin

    def interrupt(self, epoch, logs=None):
        begin(self, epoch, logs)
        if epoch == 2:
            raise KeyboardInterrupt

    # as the run of `workplace`, to the same seed
    words = ["--runs", tmp_path, "--name", "colors"]
    again = ["train", colors, *words, "--width", "0.125", "--epochs", "3"]
    with monkeypatch.context() as patch:
        patch.setattr(training.Progress, "on_epoch_begin", interrupt)
        assert command(*again, "--batch-size", 8) == 130
    assert command(*again) == 1
    assert "an unfinished run" in capsys.readouterr().err
    assert command("train", *words, "--resume", "--epochs", 50) == 1
    assert "its epochs is 3, not 50" in capsys.readouterr().err
    assert command("train", *words, "--resume") == 0
    assert "resuming after epoch 2 of 3" in capsys.readouterr().out
    ours, theirs = tmp_path / "colors", workplace / "runs/colors"
    assert (ours / "history.csv").read_text() == (theirs / "history.csv").read_text()
    weights = [
        keras.saving.load_model(run / "latest.keras").get_weights()
        for run in (ours, theirs)
    ]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert command("train", *words, "--resume") == 1
    assert "nothing to resume" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "option",
    [
        ["--mixed-precision", "float16"],
        ["--mixed-precision", "bfloat16"],
        ["--accumulate", 2, "--recipe", "paper"],
        ["--clip-norm", 0.5],
        ["--recipe", "modern"],
        ["--time-limit", "1h"],
    ],
    ids=str,
)
def test_keras_own_options_train_resume_and_reload(
    option, colors, tmp_path, monkeypatch, capsys
):
    begin = training.Progress.on_epoch_begin

    def interrupt(self, epoch, logs=None):
        begin(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    words = ["train", colors, "--runs", tmp_path, "--width", 0.0625, "--epochs", 2]
    words += ["--batch-size", 8, *option]
    assert command(*words, "--name", "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr(training.Progress, "on_epoch_begin", interrupt)
        assert command(*words, "--name", "again") == 130
    assert command("train", "--runs", tmp_path, "--name", "again", "--resume") == 0
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert (again / "history.csv").read_text() == (whole / "history.csv").read_text()
    # an optimizer that is not loaded would be a warning, which is an error here
    models = [
        training.load_checkpoint(run / "latest.keras")[0] for run in (whole, again)
    ]
    for one, other in zip(models[0].variables, models[1].variables, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    figures = tmp_path / "figures.json"
    assert command("evaluate", again / "model.keras", colors, "--json", figures) == 0
    result = json.loads((again / "result.json").read_text())
    found = json.loads(figures.read_text())["main_accuracy"]
    assert found == pytest.approx(result["val_main_accuracy"])
    assert command("export", again / "model.keras", "--saved-models", tmp_path) == 0


@pytest.mark.slow
def test_xla_compiles_on_request(colors, tmp_path):
    """In a process of its own: operations stay deterministic once they are."""
    words = [sys.executable, "-m", "keras_inception_cli", "train"]
    words += [colors, "--runs", tmp_path, "--width", "0.0625", "--batch-size", "8"]
    words += ["--name", "fast", "--epochs", "3", "--jit-compile"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        while not next(process.stdout).strip().startswith("1/3"):
            pass
        process.kill()
    words = [*words[:4], "--runs", tmp_path, "--name", "fast", "--resume"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "doesn't support" not in done.stderr
    assert "resuming after epoch" in done.stdout
    model = keras.saving.load_model(tmp_path / "fast/latest.keras")
    assert model.get_compile_config()["jit_compile"] is True
    assert command("evaluate", tmp_path / "fast/model.keras", colors) == 0


def resolved(*words) -> TrainConfig:
    parser = argparse.ArgumentParser()
    train_options.add_arguments(parser)
    return TrainConfig.resolve(parser.parse_args([str(word) for word in words]))


def test_a_recipe_fills_in_what_was_not_given():
    options = resolved("digits", "--recipe", "caffe-quick", "--epochs", 7)
    recipe = training.RECIPES["caffe-quick"]
    assert (options.epochs, options.batch_norm) == (7, False)
    assert options.learning_rate == recipe.learning_rate
    assert options.aux_schedule == "constant"
    options = resolved("digits", "--aux-schedule", "aux_4a=linear", "aux_4d=cosine")
    assert options.aux_schedule == {"aux_4a": "linear", "aux_4d": "cosine"}
    with pytest.raises(ValueError, match="paper, caffe-quick, small, finetune"):
        resolved("digits", "--recipe", "soup")
    parser = argparse.ArgumentParser()
    train_options.add_arguments(parser)
    for name in training.RECIPES:  # the help knows them without importing Keras
        assert name in parser.format_help()


def test_heads_are_named_by_endpoint_or_by_output(tmp_path):
    table = tmp_path / "superclasses.csv"
    words = ["digits", "--aux-schedule", "{}=linear", "--coarse-heads", "{}"]
    words += ["--superclasses", table, "--aux-weight", "{}=0.2,aux_4d=0.1"]
    for names in (["aux_4a", "aux_4d"], ["inception_4a", "inception_4d"]):
        for head in ("aux_4a", "inception_4a"):
            typed = [str(word).format(head) for word in words]
            config = resolved(*typed, "--heads", *names)
            assert config.heads == ("inception_4a", "inception_4d")
            assert config.aux_weight == {"aux_4a": 0.2, "aux_4d": 0.1}
            assert config.aux_schedule == {"aux_4a": "linear"}
            assert config.coarse_heads == ("aux_4a",)
    with pytest.raises(ValueError, match=r"'aux_4b'.*aux_4a \(inception_4a\)"):
        resolved("digits", "--aux-weight", "aux_4b=1")


def test_a_config_repeats_a_run(workplace, colors, tmp_path):
    config = workplace / "runs/colors/config.json"
    options = resolved("--config", config, "--epochs", 1)
    assert options.data == str(colors)
    assert (options.width, options.batch_size, options.epochs) == (0.125, 8, 1)
    kept = json.loads(config.read_text())
    again = json.loads(json.dumps(options.as_json()))
    assert again.items() <= (kept | {"epochs": 1}).items()
    # what is typed wins, also where it is the default
    options = resolved("--config", config, "--width", 1.0, "--seed", 0)
    assert (options.width, options.batch_size) == (1.0, 8)
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match=r"is not the config\.json of a run"):
        resolved("--config", tmp_path / "x.json")


def test_progress_shows_every_output(workplace):
    lines = (workplace / "printed.txt").read_text().splitlines()
    epochs = [line for line in lines if line.strip().startswith(("1/3", "2/3", "3/3"))]
    assert len(epochs) == 3
    assert all("main 0." in x or "main 1." in x for x in epochs)
    assert all("aux_4a" in x and "aux_4d" in x for x in epochs)


def test_evaluate_prints_and_writes_every_output(workplace, colors, capsys, tmp_path):
    model = workplace / "runs/colors/model.keras"
    assert command("evaluate", model, colors, "--json", tmp_path / "out.json") == 0
    out = capsys.readouterr().out
    assert "8 validation pictures" in out
    for name in ("main", "aux_4a", "aux_4d"):
        assert name in out
    figures = json.loads((tmp_path / "out.json").read_text())
    result = json.loads((workplace / "runs/colors/result.json").read_text())
    assert figures["main_accuracy"] == pytest.approx(result["val_main_accuracy"])


def test_evaluate_chooses_the_pictures_to_judge_on(workplace, colors, capsys, tmp_path):
    """A folder that the run did not learn from is judged whole."""
    words = ["evaluate", workplace / "runs/colors/model.keras"]
    for split, found in (
        ([], "8 validation pictures of colors"),
        (["--split", "all"], "40 pictures of colors"),
    ):
        assert command(*words, colors, *split) == 0
        assert found in capsys.readouterr().out
    shutil.copytree(colors, tmp_path / "moved")
    (tmp_path / "moved/red/new.png").write_bytes((colors / "blue/0.png").read_bytes())
    figures = tmp_path / "figures.json"
    assert command(*words, tmp_path / "moved", "--json", figures) == 0
    out = capsys.readouterr().out
    assert "the pictures have changed since the run began: 1 new, and left out" in out
    assert "8 validation pictures of moved" in out
    found = json.loads(figures.read_text())
    assert (found["split"], found["pictures"]) == ("validation", 8)
    low, high = found["main_accuracy_interval"]
    assert 0 <= low < found["main_accuracy"] <= high <= 1
    # other pictures, one for each class, and then of one class alone
    colorful_folders(tmp_path / "other", 1)
    assert command(*words, tmp_path / "other", "--json", figures) == 0
    assert "2 pictures of other" in capsys.readouterr().out
    assert json.loads(figures.read_text())["split"] == "all"
    shutil.rmtree(tmp_path / "other/red")
    assert command(*words, tmp_path / "other", "--output", tmp_path / "out") == 0
    assert "1 picture of other" in capsys.readouterr().out
    assert command(*words, tmp_path / "other", "--split", "test") == 1
    assert "has no test split. Choose --split all" in capsys.readouterr().err
    (tmp_path / "other/blue").rename(tmp_path / "other/green")
    assert command(*words, tmp_path / "other") == 1
    assert "unknown: 'green'. The known classes are 'blue', 'red'" in (
        capsys.readouterr().err
    )


def test_gradients_of_a_trained_file(workplace, colors, capsys, tmp_path):
    words = ["gradients", workplace / "runs/colors/model.keras", colors]
    words += ["--output", tmp_path / "seen", "--pictures", 4]
    assert command(*words) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0] for line in out.splitlines() if line}
    assert {"conv1_3x3", "inception_4a", "main", "aux_4d"} <= lines
    assert "aux_4a pulls" in out
    assert {file.name for file in (tmp_path / "seen").iterdir()} == {
        "gradients.csv",
        "gradients.png",
        "report.html",
    }
    assert command(*words) == 1
    assert "report.html already exists; pass --overwrite" in capsys.readouterr().err


def test_gradients_with_and_without_heads(colors, capsys, tmp_path):
    model = small_supervised(classes=2)
    model.save(tmp_path / "small.keras")
    words = ["gradients", tmp_path / "small.keras", colors, "--output", tmp_path]
    words += ["--compare", "--steps", 3, "--batch-size", 4, "--pictures", 4]
    assert command(*words, "--init", "gaussian") == 0
    out = capsys.readouterr().out
    assert "trained on the same 3 batches" in out
    assert (tmp_path / "comparison.png").exists()
    assert "The weights are new: normal" in (tmp_path / "report.html").read_text()


def test_gradients_of_an_untrained_network(colors, capsys):
    words = ["gradients", "googlenet_small", colors, "--width", 0.0625]
    assert command(*words, "--pictures", 2) == 0
    assert "inception_5b" in capsys.readouterr().out


def test_gradients_need_neither_two_pictures_of_a_class_nor_every_class(
    tmp_path, capsys
):
    colorful_folders(tmp_path / "colors", 1)
    file = tmp_path / "small.keras"
    model = small_supervised()
    model.class_names = ["blue", "green", "red"]
    model.save(file)
    assert command("gradients", file, tmp_path / "colors") == 0
    assert "aux pulls" in capsys.readouterr().out
    (tmp_path / "colors/red").rename(tmp_path / "colors/pink")
    assert command("gradients", file, tmp_path / "colors") == 1
    assert "classes that are unknown: 'pink'" in capsys.readouterr().err


@pytest.mark.slow  # its parts are in the default tests
def test_evaluate_by_crops_and_together(workplace, colors, capsys, tmp_path):
    model = workplace / "runs/colors/model.keras"
    words = ["evaluate", model, colors, "--crops", 10]
    assert command(*words, "--output", tmp_path / "look") == 0
    out = capsys.readouterr().out
    assert "main, 10 crops: top-1" in out
    assert "aux_4a" in out
    names = {"evaluation.json", "predictions.csv", "per_class.csv", "confusion.csv"}
    names |= {"confusion.png", "mistakes.png", "report.html"}
    with (tmp_path / "look/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    right = sum(row["true"] == row["predicted"] for row in rows) / 8
    names |= {"maps.png"} if right < 1 else set()
    assert {path.name for path in (tmp_path / "look").iterdir()} == names
    ten = json.loads((tmp_path / "look/evaluation.json").read_text())
    assert ten["top_1"] == right
    assert all(row["true"] in row["picture"] for row in rows)  # the class's folder
    with (tmp_path / "look/per_class.csv").open() as file:
        per_class = list(csv.DictReader(file))
    assert [row["pictures"] for row in per_class] == ["4", "4"]
    assert all(row["accuracy"] == row["recall"] for row in per_class)
    for name in ("precision", "recall", "f1"):
        mean = np.mean([float(row[name]) for row in per_class])
        assert ten[f"macro_{name}"] == pytest.approx(mean, abs=1e-6)
    averages = "precision {macro_precision:.4f}  recall {macro_recall:.4f}"
    assert averages.format(**ten) in out
    other = shutil.copy(model, tmp_path / "other.keras")
    words = ["evaluate", model, other, colors, "--json", tmp_path / "out.json"]
    assert command(*words) == 0
    assert "1 crop, 2 models together" in capsys.readouterr().out
    both = json.loads((tmp_path / "out.json").read_text())
    alone = both["models"][str(model)]
    assert both["top_1"] == pytest.approx(alone["main_accuracy"])
    assert both["top_5"] == 1  # of two classes
    assert alone["main_loss"] == pytest.approx(ten["main_loss"])


@pytest.mark.slow  # its parts are in the default tests
def test_bad_pictures_are_in_the_report(colors, tmp_path, capsys):
    shutil.copytree(colors, tmp_path / "some")
    (tmp_path / "some/red/0.png").write_bytes(b"")
    damaged = sorted((tmp_path / "some/blue").iterdir())[:3]
    for path in damaged:
        contents = bytearray(path.read_bytes())
        contents[len(contents) // 2] ^= 0xFF
        path.write_bytes(contents)
    words = ["train", tmp_path / "some", "--runs", tmp_path / "runs", "--epochs", 1]
    words += ["--width", "0.0625", "--batch-size", 8, "--class-weights", "balanced"]
    words += ["--heads"]
    assert command(*words, "--max-bad-fraction", 0.05) == 1
    error = capsys.readouterr().err
    # training stops as soon as three are known, of the four that there are
    assert re.search("[34] of 40 files are damaged or not pictures", error)
    assert error.count("\n") == 1
    assert not (tmp_path / "runs/some/result.json").exists()
    assert command(*words, "--max-bad-fraction", 0.1, "--overwrite") == 0
    result = json.loads((tmp_path / "runs/some/result.json").read_text())
    assert {entry["file"] for entry in result["bad_pictures"]} == {
        str(tmp_path / "some/red/0.png"),
        *map(str, damaged),
    }
    assert "skipped 4 bad pictures" in capsys.readouterr().out
    config = json.loads((tmp_path / "runs/some/config.json").read_text())
    assert config["augment"] == "basic"


def test_data_prints_and_draws(colors, tmp_path, capsys):
    shutil.copytree(colors, tmp_path / "some")
    for index in range(3, 20):
        (tmp_path / f"some/red/{index}.png").unlink()
    (tmp_path / "some/blue/0.png").write_text("words")
    words = ["data", tmp_path / "some", "--output", tmp_path / "sheet.png"]
    assert command(*words, "--json", tmp_path / "out.json") == 1  # 1 of 23 is too many
    captured = capsys.readouterr()
    assert "17 training and 5 validation pictures, 2 classes" in captured.out
    assert "blue/0.png: its contents are not a picture" in captured.out
    assert "7.5 times" in captured.out
    assert "--class-weights balanced" in captured.out
    assert "width: 24 to 24 pixels, median 24" in captured.out
    assert captured.err.count("\n") == 1
    assert command(*words, "--max-bad-fraction", 0.1, "--quick") == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        # two rows of eight squares
        assert 3 < sheet.width / sheet.height < 5
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3).astype(int)
    red = (pixels[:, 0] > 150) & (pixels[:, 2] < 90)
    blue = (pixels[:, 2] > 150) & (pixels[:, 0] < 90)
    assert red.mean() > 0.2
    assert blue.mean() > 0.2
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["classes"]["red"] == {"train": 2, "validation": 1}
    assert len(figures["bad_pictures"]) == 1


@pytest.mark.slow  # its parts are in the default tests
def test_export_makes_the_next_version(workplace, capsys):
    model = workplace / "runs/colors/model.keras"
    saved = workplace / "again"
    for version in (1, 2):
        assert command("export", model, "--saved-models", saved, "--name", "x") == 0
        assert capsys.readouterr().out == f"wrote {saved / 'x' / str(version)}\n"
    signatures = tf.saved_model.load(saved / "x/2").signatures
    assert "serving_bytes" in signatures


@pytest.mark.slow  # its parts are in the default tests
def test_calibrate_writes_exits_that_export_serves(workplace, colors, capsys):
    model = workplace / "runs/colors/model.keras"
    out = workplace / "exits.json"
    assert command("calibrate", model, colors, "--max-drop", 0.5, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "8 validation pictures: 4 choose the thresholds, 4 check them" in printed
    assert "times as fast in batches of 1 and 32" in printed
    assert f"wrote {out} and {workplace / 'exits.png'}" in printed
    thresholds = json.loads(out.read_text())["thresholds"]
    assert thresholds
    with Image.open(workplace / "exits.png") as picture:
        assert picture.size == (1500, 630)
    words = ["export", model, "--saved-models", workplace / "early", "--name", "x"]
    assert command(*words, "--early-exit", out) == 0
    serve = tf.saved_model.load(workplace / "early/x/1").signatures[
        "serving_early_exit"
    ]
    answer = serve(images=tf.zeros((2, 32, 32, 3)))
    assert {name.decode() for name in answer["exit"].numpy()} <= {*thresholds, "main"}
    tested = ["calibrate", model, colors, "--confidence-level", 0.9, "--out", out]
    assert command(*tested, "--max-cost", 0.9) == 0
    printed = capsys.readouterr().out
    assert "4 choose the thresholds, 4 test them" in printed
    assert "at least, 90%" in printed
    words += ["--early-exit", out, "--format", "onnx"]
    assert command(*words) == 0
    assert (workplace / "early/x/onnx/1/exits.json").is_file()
    capsys.readouterr()
    assert command(*words, "--int8", colors) == 0
    assert "accuracy on 4 validation pictures: float32" in capsys.readouterr().out
    assert command("calibrate", model, colors, "--dtype", "bfloat16", "--out", out) == 0
    assert json.loads(out.read_text())["dtype"] == "bfloat16"


@pytest.mark.slow
def test_a_head_learns_superclasses_from_a_file(tmp_path, capsys):
    random = np.random.default_rng(0)
    for name in ("ant", "bee", "cat"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(5):
            pixels = random.integers(0, 256, (24, 24, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / f"data/{name}/{index}.png")
    table = tmp_path / "superclasses.csv"
    table.write_text("class,superclass\ncat,mammal\nant,insect\nbee,insect\n")
    words = ["train", tmp_path / "data", "--runs", tmp_path, "--name", "run"]
    words += ["--width", 0.0625, "--epochs", 1, "--batch-size", 4]
    words += ["--heads", "inception_4a", "--superclasses", table]
    assert command(*words) == 1
    assert "belong together" in capsys.readouterr().err
    assert command(*words, "--coarse-heads", "aux_4d") == 1
    assert "names no head: aux_4d" in capsys.readouterr().err
    assert command(*words, "--coarse-heads", "aux_4a") == 0
    assert "auxiliary heads: aux_4a (insect, mammal)" in capsys.readouterr().out
    model = tmp_path / "run/model.keras"
    assert command("evaluate", model, tmp_path / "data") == 0
    assert "among insect, mammal" in capsys.readouterr().out
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["superclasses"] == str(table)
    assert command("export", model, "--saved-models", tmp_path / "saved") == 0
    assert command("calibrate", model, tmp_path / "data") == 1
    assert "superclasses" in capsys.readouterr().err


def test_the_model_card_knows_the_run(workplace, colors):
    card = (workplace / "saved/colors/1/model_card.md").read_text()
    result = json.loads((workplace / "runs/colors/result.json").read_text())
    assert f"| data | {colors} |" in card
    assert f"| accuracy | {result['val_main_accuracy']:.4f} on validation" in card


def test_export_goes_back_and_prunes(tmp_path, workplace, capsys):
    for version in range(1, 5):
        (tmp_path / f"x/{version}").mkdir(parents=True)
    words = ["export", "--saved-models", tmp_path, "--name", "x"]
    assert command(*words, "--rollback") == 0
    assert "version 3 is the highest now" in capsys.readouterr().out
    model = workplace / "runs/colors/model.keras"
    words += [model, "--keep", 2, "--top", 1, "--dtype", "bfloat16"]
    assert command(*words) == 0
    out = capsys.readouterr().out
    assert f"wrote {tmp_path / 'x/5'}\ndeleted {tmp_path / 'x/1'}\n" in out
    left = {entry.name for entry in (tmp_path / "x").iterdir()}
    assert left == {"3", "5", "withdrawn-4"}
    assert "bfloat16" in (tmp_path / "x/5/model_card.md").read_text()


@pytest.mark.slow  # its parts are in the default tests
def test_export_to_another_format(tmp_path, workplace, capsys):
    model = workplace / "runs/colors/model.keras"
    words = ["export", model, "--saved-models", tmp_path, "--format", "onnx"]
    assert command(*words) == 0
    path = tmp_path / "colors/onnx/1/model.onnx"
    assert capsys.readouterr().out == f"wrote {path}\n"
    assert path.is_file()


@pytest.mark.slow  # its parts are in the default tests
def test_export_in_integers_tells_the_accuracy(tmp_path, workplace, colors, capsys):
    model = workplace / "runs/colors/model.keras"
    words = ["export", model, "--saved-models", tmp_path, "--format", "openvino"]
    assert command(*words, "--int8", colors) == 0
    wrote, accuracy = capsys.readouterr().out.splitlines()
    assert wrote == f"wrote {tmp_path / 'colors/openvino/1/model.xml'}"
    told = r"accuracy on (\d+) validation pictures: float32 ([\d.]+)  int8 ([\d.]+)"
    count, floats, integers = re.fullmatch(told, accuracy).groups()
    result = json.loads((workplace / "runs/colors/result.json").read_text())
    assert int(count) == 8
    assert float(floats) == pytest.approx(result["val_main_accuracy"], abs=1e-4)
    assert abs(float(integers) - float(floats)) < 0.2  # one picture is 0.125


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export"], "needs a MODEL"),
        (["export", "--rollback"], "--rollback needs --name"),
        (["export", "--rollback", "--name", "{tmp}/empty"], "at least two"),
        (["export", "x.keras", "--keep", "0"], "--keep must be at least 1"),
        (
            ["export", "x.keras", "--format", "onnx", "--top", "1"],
            "--top applies to a SavedModel only",
        ),
        (
            ["export", "x.keras", "--format", "onnx", "--dtype", "bfloat16"],
            "--dtype applies to a SavedModel only",
        ),
        (
            ["export", "x.keras", "--early-exit", "x", "--format", "litert"],
            "litert files can't skip",
        ),
        (["export", "x.keras", "--int8", "digits"], "--int8 needs --format onnx or"),
        (["train", "{tmp}/nothing"], "There is no folder"),
        (["train", "{tmp}/single"], "at least two classes"),
        (["train", "{tmp}/empty"], "class 'b' has no pictures"),
        (["train", "{tmp}/bad"], "bad/a/x.jpg: its contents are not a picture"),
        (["train", "digits", "--heads", "inception_7x"], "no endpoint 'inception_7x'"),
        (["train", "digits", "--image-size", "8"], "at least 16x16"),
        (
            ["train", "digits", "--weights", "x.keras", "--no-batch-norm"],
            "--weights x.keras brings its own network: leave out --batch-norm",
        ),
        (
            ["train", "digits", "--devices", "9"],
            "Requested 9 devices; only 1 available",
        ),
        (
            ["evaluate", "x.keras", "digits", "--json", "{tmp}/no/x.json"],
            "Create it fi",
        ),
        (["data", "digits", "--json", "{tmp}/no/x.json"], "Create it first"),
        (["train"], "train needs DATA"),
        (["train", "--name", "x", "--resume"], "There is no run in {tmp}/runs/x"),
        (["train", "digits", "--aux-schedule", "steep"], "constant, linear, cosine"),
        (["train", "digits", "--epochs", "0"], "--epochs must be at least 1"),
        (["gradients", "m", "d", "--output", "{tmp}/bad/a/x.jpg"], "is a file. Name"),
        (["evaluate", "m", "d", "--output", "{tmp}/bad/a/x.jpg"], "is a file. Name"),
        (["train", "digits", "--patience", "0"], "--patience must be at least 1"),
        (["train", "digits", "--aux-weight", "-1"], "at least 0"),
        (["train", "digits", "--width", "0"], "greater than 0"),
        (["train", "digits", "--width", "inf"], "a finite number greater than 0"),
        (["train", "labels.csv", "--resume"], "needs the --name of the run"),
        (["calibrate", "m.keras", "digits", "--out", "x.png"], "--out is a JSON file"),
        (["export", "m.keras", "--format", "onnx", "--top", "0"], "--top applies to"),
        (["train", "digits", "--learning-rate", "0"], "--learning-rate must be above"),
        (["train", "digits", "--label-smoothing", "1"], "--label-smoothing must be at"),
        (["evaluate", "{tmp}/none.keras", "digits"], "There is no model"),
        (["evaluate", "{tmp}/bad/a/x.jpg", "digits"], "is not a .keras model"),
        (["export", "{tmp}/none.keras"], "There is no model"),
    ],
)
def test_bad_input_is_one_line_and_a_status(tmp_path, capsys, words, message):
    for name in ("single/a", "empty/a", "empty/b", "bad/a", "bad/b"):
        (tmp_path / name).mkdir(parents=True)
        if name != "empty/b":
            Image.new("RGB", (20, 20)).save(tmp_path / name / "0.png")
            Image.new("RGB", (20, 20)).save(tmp_path / name / "1.png")
    (tmp_path / "bad/a/x.jpg").write_text("these are words")
    words = [word.format(tmp=tmp_path) for word in words]
    if words[0] == "train":
        words += ["--runs", str(tmp_path / "runs")]
    assert command(*words) == 1
    captured = capsys.readouterr()
    assert message.format(tmp=tmp_path) in captured.err
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("keras-inception: error: ")
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_is_not_overwritten(workplace, colors, capsys):
    words = ["train", colors, "--runs", workplace / "runs", "--name", "colors"]
    before = (workplace / "runs/colors/result.json").read_text()
    assert command(*words) == 1
    assert "holds a finished run" in capsys.readouterr().err
    assert (workplace / "runs/colors/result.json").read_text() == before


def test_a_folder_that_is_no_run_is_never_deleted(tmp_path, colors, capsys):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.tex").write_text("years")
    words = ["train", colors, "--runs", tmp_path, "--name", "precious", "--overwrite"]
    assert command(*words) == 1
    assert "is not a training run" in capsys.readouterr().err
    assert (tmp_path / "precious/thesis.tex").exists()


def test_other_classes_are_refused(workplace, capsys):
    model = workplace / "runs/colors/model.keras"
    assert command("evaluate", model, "digits") == 1
    assert "differ from the data's" in capsys.readouterr().err


def test_help_comes_without_keras():
    code = (
        "import sys, keras_inception_cli\n"
        "try: keras_inception_cli.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_the_process_is_quiet_and_fails_with_a_status(tmp_path):
    words = [sys.executable, "-m", "keras_inception_cli", "train", tmp_path / "none"]
    started = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True)
    assert time.monotonic() - started < 60
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "There is no folder" in done.stderr


@pytest.mark.slow
def test_train_keeps_account_of_the_losses_and_resumes_it(
    colors, tmp_path, monkeypatch, capsys
):
    begin = training.Progress.on_epoch_begin

    def interrupt(self, epoch, logs=None):
        begin(self, epoch, logs)
        if epoch == 2:
            raise KeyboardInterrupt

    words = ["train", colors, "--runs", tmp_path, "--width", 0.0625, "--epochs", 3]
    words += ["--batch-size", 8, "--attribution"]
    assert command(*words, "--name", "whole") == 0
    assert "Of the way that conv1_3x3 went, " in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(training.Progress, "on_epoch_begin", interrupt)
        assert command(*words, "--name", "again") == 130
    assert command("train", "--runs", tmp_path, "--name", "again", "--resume") == 0
    whole, again = tmp_path / "whole", tmp_path / "again"
    for file in ("history.csv", "attribution.csv"):
        assert (again / file).read_text() == (whole / file).read_text()
    assert (whole / "attribution.png").stat().st_size > 1000
    log = logged(whole / "tensorboard")
    assert log["attribution/aux_4a"]["attribution_share/conv1_3x3"] == [1, 2, 3]
    seen = ["gradients", whole / "model.keras", colors, "--output", tmp_path / "seen"]
    assert command(*seen) == 0
    assert "Of the way that conv1_3x3 went, " in capsys.readouterr().out
    page = (tmp_path / "seen/report.html").read_text()
    assert "Of the way that conv1_3x3 went, " in page
    assert command(*words, "--name", "no", "--accumulate", 2) == 1
    assert "accumulated over several steps" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        keras_inception_cli.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{ki.__version__}\n")
