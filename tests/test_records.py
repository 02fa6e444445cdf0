"""Records of TensorFlow Datasets: a folder's cache, and prepared datasets."""

import argparse
import dataclasses
import os
import socket
import struct
import time
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import tiny_googlenet
from PIL import Image

import keras_inception as ki
from keras_inception.data import find
from keras_inception.training import RunConfig, RunDirectory
from keras_inception_cli import train_options, train_session, train_settings
from keras_inception_cli.splits import find_judged
from keras_inception_cli.train_config import TrainConfig
from keras_inception_cli.train_job import Job


@pytest.fixture
def folder(tmp_path):
    """Ten pictures in each of two classes, of every format; one is damaged."""
    random = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(10):
            pixels = random.integers(0, 100, (24, 30, 3)) + 150 * label
            picture = Image.fromarray(pixels.astype("uint8"))
            kind = ("png", "jpg", "bmp", "gif")[index % 4]
            if kind == "bmp":
                picture = picture.convert("P")  # which TensorFlow does not decode
            picture.save(tmp_path / "pictures" / name / f"{index}.{kind}")
    path = tmp_path / "pictures/dark/0.png"
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 0xFF
    path.write_bytes(contents)
    return tmp_path / "pictures"


@pytest.fixture
def no_network(monkeypatch):
    """Makes every network access an error that no `except OSError` catches."""

    def refuse(*arguments, **keywords):
        raise AssertionError(f"network: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def seen(dataset):
    return [(images.numpy(), labels.numpy()) for images, labels in dataset]


def test_a_folder_is_written_once_and_read_from_records(folder, tmp_path, no_network):
    arguments = {"data_dir": tmp_path / "records", "max_bad_fraction": 0.1}
    plain = find(folder, max_bad_fraction=0.1)
    lines = []
    first = find(folder, cache=True, log=lines.append, **arguments)
    # erase the files' contents; only size and time of modification stay
    before = {path: path.stat() for path in folder.rglob("*.*")}
    for path, status in before.items():
        path.write_bytes(b"\0" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = find(folder, cache=True, log=lines.append, **arguments)
    (line,) = lines  # the second time nothing was written
    assert line.startswith("writing 20 pictures as records into ")
    for source in (first, second):
        assert source.name == "pictures"
        assert source.class_names == ["dark", "light"]
        assert source.bad.report() == [
            {"file": str(folder / "dark/0.png"), "fault": "its contents are damaged"}
        ]
        assert source.picture_size == 24
        assert len(source.train) + len(source.validation) == 19
    data = ki.data.load(second, 16, 4)
    for split, batches in (
        (second.train, data.train),
        (second.validation, data.validation),
    ):
        images, labels = (
            np.concatenate(part) for part in zip(*seen(batches), strict=True)
        )
        assert len(labels) == len(split) == len(split.labels)
        assert len(batches) == -(-len(split) // 4)
        assert ((images.mean((1, 2, 3)) > 125) == (labels == 1)).all()
        assert np.bincount(labels).tolist() == np.bincount(split.labels).tolist()
    whole = {int(p): int(label) for p, _, label in second.train.examples()}
    part = second.train.take(np.array([0, 2, 5]))
    kept = {int(p): int(label) for p, _, label in part.examples()}
    assert len(part) == len(kept) == 3
    assert sorted(kept) == [sorted(whole)[index] for index in (0, 2, 5)]
    assert part.labels.tolist() == [whole[position] for position in sorted(kept)]
    names = {
        second.validation.name_of(int(position))
        for position, *_ in second.validation.examples()
    }
    assert names <= set(map(str, before))
    assert len(names & set(plain.validation.paths)) >= len(names) - 1


def test_records_are_shuffled_and_augmented_by_seed_and_epoch(folder, tmp_path):
    arguments = {"data_dir": tmp_path, "max_bad_fraction": 0.1, "cache": True}
    data = ki.data.load(folder, 16, 32, **arguments)
    (one,), (two,) = seen(data.train), seen(data.train)
    assert not np.array_equal(one[0], two[0])
    again = ki.data.load(folder, 16, 32, first_epoch=1, **arguments)
    np.testing.assert_array_equal(seen(again.train)[0][0], two[0])


def test_a_changed_folder_makes_new_records(folder, tmp_path):
    arguments = {"data_dir": tmp_path, "max_bad_fraction": 0.1, "cache": True}
    find(folder, **arguments)
    Image.new("RGB", (30, 24)).save(folder / "dark/new.png")
    source = find(folder, **arguments)
    assert len(source.train) + len(source.validation) == 20


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A dataset prepared by TFDS, in two versions, with gray pictures."""
    root = tmp_path_factory.mktemp("tfds")

    class GrayThings(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(20, 20, 1)),
                "label": tfds.features.ClassLabel(names=["dark", "light"]),
                "id": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples(40)}

        def _generate_examples(self, count):
            for index in range(count):
                level = 40 + 150 * (index % 2)
                picture = np.full((20, 20, 1), level, "uint8")
                yield index, {"image": picture, "label": index % 2, "id": str(index)}

    GrayThings(data_dir=root).download_and_prepare()
    GrayThings.VERSION = tfds.core.Version("1.10.0")
    GrayThings(data_dir=root).download_and_prepare()
    return root


@pytest.mark.parametrize("spec", ["tfds:gray_things", "tfds:gray_things:1.0.0"])
def test_a_prepared_dataset_is_read_without_a_network(prepared, no_network, spec):
    data = ki.data.load(spec, 16, 8, data_dir=prepared)
    assert data.source.name == "gray_things"
    assert data.class_names == ["dark", "light"]
    assert (len(data.source.train), len(data.source.validation)) == (32, 8)
    assert data.source.picture_size == 20
    for images, labels in [*data.train, *data.validation]:
        assert images.shape[1:] == (16, 16, 3)
        assert ((images.numpy().mean((1, 2, 3)) > 125) == (labels.numpy() == 1)).all()
    assert len(data.source.train.labels) == 32


def test_large_metadata_do_not_keep_a_dataset_from_being_measured(prepared):
    """Pillow refuses 2 MB of color profile, which TensorFlow does not read."""
    split = find("tfds:gray_things", data_dir=prepared).train
    contents = next(iter(split.examples()))[1].numpy()
    profile = b"x\0\0" + zlib.compress(bytes(2_500_000))
    chunk = b"iCCP" + profile
    chunk = struct.pack(">I", len(profile)) + chunk
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    large = contents[:33] + chunk + contents[33:]

    def parse(number, record):
        return number, tf.constant(large), tf.constant(0)

    assert dataclasses.replace(split, parse=parse).measure(3).tolist() == [[20, 20]] * 3

    def parse_other(number, record):
        return number, tf.constant(b"something else"), tf.constant(0)

    with pytest.raises(ValueError, match=r"None of the first 3 records .* is a JPEG"):
        dataclasses.replace(split, parse=parse_other).measure(3)


def test_the_highest_version_is_taken(prepared, monkeypatch):
    opened = []
    original = tfds.builder_from_directory
    monkeypatch.setattr(
        tfds,
        "builder_from_directory",
        lambda path: opened.append(path) or original(path),
    )
    source = find("tfds:gray_things", data_dir=prepared)
    assert opened[0].name == "1.10.0"
    assert source.dataset == "tfds:gray_things:1.10.0"
    again = find(source.dataset, data_dir=prepared)
    assert again.dataset == source.dataset


@pytest.fixture
def run_of(prepared, tmp_path):
    """Makes a run of the dataset that knows some version, or none."""

    def make(name, **dataset):
        run = RunDirectory.create(tmp_path / name)
        settings = {"data_dir": str(prepared), **dataset}
        run.begin(RunConfig("tfds:gray_things", 2, (), settings=settings))
        return run

    return make


THEN = "tfds:gray_things:1.0.0"


def test_a_resumed_run_reads_the_version_that_it_learned_from(run_of, monkeypatch):
    class Found(Exception):
        pass

    def found(options, config, source, devices):
        raise Found(source.dataset)

    monkeypatch.setattr(train_session, "prepare", found)
    parser = argparse.ArgumentParser()
    train_options.add_arguments(parser)
    # a run of an earlier version does not know the dataset's
    for known, dataset in (({"dataset": THEN}, THEN), ({}, f"{THEN[:-5]}1.10.0")):
        run = run_of(f"run{len(known)}", **known)
        words = ["--resume", "--runs", str(run.path.parent), "--name", run.path.name]
        with pytest.raises(Found, match=dataset):
            train_session.run(parser.parse_args(words))


def test_a_run_keeps_the_version_that_it_learns_from(run_of, prepared):
    config = TrainConfig.resolve(
        argparse.Namespace(resume=False, config=run_of("run").config, hyperparameters=0)
    )
    model = tiny_googlenet(classes=2)
    pictures = ki.data.load(THEN, 32, data_dir=prepared)
    job = Job(config, model, pictures, None, None, None, None)
    devices = SimpleNamespace(replicas=1, workers=1)
    kept = train_settings.final_run_config(config, job, devices)
    assert (kept.data, kept.settings["dataset"]) == ("tfds:gray_things", THEN)


def test_a_model_is_judged_on_the_version_that_it_learned_from(run_of, prepared):
    run, old = run_of("run", dataset=THEN).model, run_of("old").model
    model = tiny_googlenet(classes=2)

    def judged(file, data, split=None):
        options = argparse.Namespace(data=data, split=split, data_dir=prepared)
        vars(options).update(max_bad_fraction=0, cache=False, seed=None)
        options.drop_duplicates = False
        found = find_judged(options, {str(file): model})
        return found.name, found.source.dataset

    newest = f"{THEN[:-5]}1.10.0"
    assert judged(run, "tfds:gray_things") == ("validation ", THEN)
    assert judged(run, THEN) == ("validation ", THEN)
    assert judged(run, newest) == ("", newest)
    assert judged(run, "tfds:gray_things", "all") == ("", newest)
    assert judged(old, "tfds:gray_things") == ("validation ", newest)


def test_a_missing_dataset_without_a_network_is_an_error_at_once(prepared, monkeypatch):
    def unreachable(*arguments, **keywords):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    started = time.monotonic()
    with pytest.raises(FileNotFoundError, match=r"no dataset 'cifar10'.*no network"):
        find("tfds:cifar10", data_dir=prepared)
    assert time.monotonic() - started < 10


def test_a_missing_version_is_not_replaced_by_another(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: 1 / 0)
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ZeroDivisionError):
        find("tfds:gray_things:2.0.0", data_dir=prepared)
