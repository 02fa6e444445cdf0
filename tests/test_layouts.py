"""Folders and CSV files as people have them: splits, classes, and what is refused."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from keras_inception.data import find, list_files, load
from keras_inception.data.layouts import split_of


def picture(path, color=None):
    """Writes a picture, by default one like no other, and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(abs(hash(str(path))) % 2**32)
    color = color or tuple(random.integers(0, 256, 3).tolist())
    Image.new("RGB", (9, 8), color).save(path)
    return path


def classes(folder, count=3, names=("ant", "bee", "cat")):
    """Writes class folders with a few pictures each."""
    for name in names:
        for index in range(count):
            picture(folder / name / f"{index}.png")


def counts(source):
    """Number of pictures in each split."""
    return {name: len(split) for name, split in source.by_split.items()}


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "valid", "test"),  # Roboflow
        ("train", "val", None),
        ("Train", "Validation", "Test"),
        ("TRAINING", "DEV", "TESTING"),
        ("training_set", "dev-set", "test set"),
        ("train_images", "val_images", "test_images"),
        ("TrainData", "ValidData", "TestData"),
        ("train2017", "val2017", "test2017"),
        ("train", None, "test"),  # Kaggle
        ("train", None, None),
    ],
)
def test_splits_in_every_spelling(tmp_path, train, validation, test):
    for name, count in ((train, 5), (validation, 2), (test, 1)):
        if name:
            classes(tmp_path / name, count)
    source = find(tmp_path)
    assert source.class_names == ["ant", "bee", "cat"]
    expected = {"train": 15, "validation": 6} if validation else {}
    expected = expected or {"train": 12, "validation": 3}  # a fifth, at least one
    assert counts(source) == expected | ({"test": 3} if test else {})
    assert not source.passed_over
    if test:
        test_folder = str(tmp_path / test)
        assert all(path.startswith(test_folder) for path in source.test.paths)
        (batch,) = load(source, 8).test
        assert batch[1].numpy().tolist() == [0, 1, 2]
    assert find(tmp_path, whole=True).by_split.keys() == {"train"}


def test_classes_may_be_called_like_splits(tmp_path):
    names = ("bus", "car", "train")
    classes(tmp_path / "a", names=names)
    classes(tmp_path / "b", names=("oven", "test_tube", "train_station"))
    classes(tmp_path / "d", names=("ant/pictures", "bee/pictures/new"))
    classes(tmp_path / "c/train", names=("dev", "ops"))
    assert find(tmp_path / "a").class_names == list(names)
    assert find(tmp_path / "b").class_names == ["oven", "test_tube", "train_station"]
    assert find(tmp_path / "c").class_names == ["dev", "ops"]
    assert find(tmp_path / "d").class_names == ["ant", "bee"]
    known = list_files(tmp_path / "c/train", ["dev", "ops", "test"])
    assert known.class_names == ["dev", "ops", "test"]


def test_a_class_with_folders_inside_may_stand_beside_one_without(tmp_path):
    build(tmp_path, "dog/poodle/1.png", "dog/beagle/1.png", "cat/1.png", "cat/2.png")
    assert find(tmp_path).class_names == ["cat", "dog"]
    build(tmp_path / "bottles", *(f"{n}/1.png" for n in ("labeled", "unlabeled")))
    build(tmp_path / "bottles", *(f"{n}/2.png" for n in ("labeled", "unlabeled")))
    assert find(tmp_path / "bottles").class_names == ["labeled", "unlabeled"]


def build(root, *files):
    for file in files:
        picture(root / file)


REFUSED = {
    "splits without classes": (
        ["train/1.png", "test/2.png"],
        "'test', 'train'.*read as test and train splits.*CSV file",
    ),
    "only other splits": (["val/a/1.png", "test/a/1.png"], "no training split"),
    "classes beside a split": (
        ["a/1.png", "b/1.png", "test/a/1.png", "test/b/1.png"],
        "'test'.*no training split",
    ),
    "an unknown split": (
        ["train/a/1.png", "train/b/1.png", "extra/a/1.png"],
        "beside them 'extra' with pictures",
    ),
    "classes beside train": (
        ["train/a/1.png", "train/b/1.png", "car/1.png"],
        "beside them 'car' with pictures",
    ),
    "a flat test split beside classes": (
        ["ant/1.png", "bee/1.png", "Test Set/1.png"],
        "beside them, 'Test Set', which reads as test split, .*Move it away",
    ),
    "a flat validation split beside classes": (
        ["ant/1.png", "bee/1.png", "val/1.png"],
        "beside them, 'val', which reads as validation split, .*Move it away",
    ),
    "pictures without labels beside classes": (
        ["labeled/a/1.png", "labeled/b/1.png", "unlabeled/1.png"],
        r"not clear what the classes.*'labeled', 'unlabeled'.*labeled: 'a', 'b'",
    ),
    "a flat validation split": (
        ["train/a/1.png", "train/b/1.png", "val/1.png"],
        "beside them 'val' with pictures",
    ),
    "two folders for a split": (
        ["train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"],
        "several folders for the validation split: 'val', 'valid'",
    ),
    "splits inside classes": (
        ["a/train/1.png", "a/test/2.png", "b/train/1.png", "b/test/2.png"],
        "holds the same folders: 'test', 'train'.*on top",
    ),
    "one split inside classes": (
        ["a/train/1.png", "b/train/1.png"],
        "holds the same folders: 'train'",
    ),
    "classes inside groups": (
        ["x/a/1.png", "x/b/1.png", "y/a/1.png", "y/b/1.png"],
        "'x', 'y'.*holds the same folders: 'a', 'b'",
    ),
    "nested classes": (
        ["animal/cat/1.png", "animal/dog/1.png", "vehicle/bus/1.png"],
        r"not clear what the classes.*'animal', 'vehicle'.*animal: 'cat', 'dog'",
    ),
    "archives in folders of their names": (  # Intel's pictures on Kaggle
        ["x/x/a/1.png", "x/x/b/1.png", "y/y/a/1.png", "y/y/b/1.png", "z/z/1.png"],
        r"not clear what the classes.*x/x: 'a', 'b'",
    ),
    "splits in longer names": (
        ["seg_train/a/1.png", "seg_train/b/1.png", "seg_test/1.png", "x/1.png"],
        "'seg_test', 'seg_train', whose names read as splits.*/train/CLASS",
    ),
    "splits in the names of classes": (
        ["train-cat/1.png", "Cat_test/1.png", "dog_train/1.png"],
        "'Cat_test', 'train-cat', whose names read as splits",
    ),
    "an unknown class in a split": (
        ["train/a/1.png", "train/b/1.png", "val/A/1.png"],
        "unknown: 'A'.*'a', 'b'",
    ),
    "one class": (["a/1.png"], "at least two classes.*Found in .*: 'a'"),
    "a folder too many": (["a/b/1.png", "a/c/1.png"], "Did you mean .*a?"),
    "pictures alone": (["1.png", "2.png"], "no folder and pictures in no folder"),
    "only hidden classes": ([".a/1.png", ".b/1.png"], "Found in .*: no folder"),
}


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED)
def test_whatever_could_mean_two_things_is_refused(tmp_path, files, message):
    build(tmp_path, *files)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        find(tmp_path)


def test_what_is_no_picture_of_a_class_is_counted(tmp_path):
    classes(tmp_path / "train", 5)
    classes(tmp_path / "test", 1)
    hidden = [
        "train/ant/.ipynb_checkpoints/0-checkpoint.png",
        "train/ant/.thumbs/small/0.png",
        "train/bee/._0.png",
        "train/.cache/0.png",
        ".git/objects/0.png",
    ]
    machine_made = [
        "train/ant/@eaDir/0.png",
        "__MACOSX/train/ant/0.png",
        "train/bee/Thumbs.db",
        "train/cat/#snapshot/daily/0.png",
        "train/cat/~snapshot/0.png",
        "RECYCLER/0.png",
    ]
    in_no_class = ["train/lost.png", "test/lost.png"]
    beside = ["README.txt", "cover.png", "annotations/a.xml"]
    no_picture = ["train/ant/notes.txt", "train/cat/labels.csv"]
    for file in (*hidden, *machine_made, *in_no_class, *beside, *no_picture):
        if file.endswith(".png"):
            picture(tmp_path / file)
        else:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes(b"something else")
    source = find(tmp_path)
    assert counts(source) == {"train": 12, "validation": 3, "test": 3}
    assert not source.bad
    report = {row["reason"]: row for row in source.passed_over.report()}
    for reason, files in {
        "hidden, or in a hidden folder": hidden,
        "made by a system or a program": machine_made,
        "in no class folder": in_no_class,
        "beside the splits": beside,
        "not pictures": no_picture,
    }.items():
        row = report.pop(reason)
        assert sorted(row["files"]) == sorted(str(tmp_path / file) for file in files)
        assert row["count"] == len(files)
    assert not report
    assert "2 not pictures (.txt 1, .csv 1)" in source.passed_over.describe()


def test_pictures_without_labels_are_passed_over(tmp_path):
    classes(tmp_path / "train", 5)
    build(tmp_path, "test/1.png", "test/2.png")
    source = find(tmp_path)
    assert counts(source) == {"train": 12, "validation": 3}
    assert source.passed_over.describe() == "2 beside the splits (.png 2)"


def test_a_picture_counts_by_its_content(tmp_path):
    classes(tmp_path, 4)
    (tmp_path / "ant/0.png").rename(tmp_path / "ant/no suffix")
    (tmp_path / "ant/1.png").rename(tmp_path / "ant/1.dat")
    (tmp_path / "bee/0.png").rename(tmp_path / "bee/0.JPE")
    source = find(tmp_path)
    assert counts(source) == {"train": 9, "validation": 3}
    (tmp_path / "cat/0.heic").write_bytes(b"\0\0\0\x18ftypheic....")
    with pytest.raises(ValueError, match=r"1 of 13 files .*0\.heic"):
        find(tmp_path)


def test_a_class_of_other_files_has_no_pictures(tmp_path):
    classes(tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match=r"'dog' has no pictures: .* holds no file"):
        find(tmp_path)
    (tmp_path / "dog/list.txt").write_text("dogs")
    with pytest.raises(ValueError, match="'dog' has no pictures: all of its files"):
        find(tmp_path)


def test_names_of_classes_have_one_form(tmp_path):
    composed, decomposed = (unicodedata.normalize(f, "café") for f in ("NFC", "NFD"))
    classes(tmp_path / "train", names=("bar", composed))
    classes(tmp_path / "val", names=("bar", decomposed))
    source = find(tmp_path)
    assert source.class_names == ["bar", composed]
    assert counts(source) == {"train": 6, "validation": 6}
    picture(tmp_path / "train" / decomposed / "x.png")
    with pytest.raises(ValueError, match="two folders called 'café'"):
        find(tmp_path)


def test_names_of_files_need_not_be_text(tmp_path):
    classes(tmp_path)
    name = b"caf\xe9.png"
    (tmp_path / "ant/0.png").rename(
        tmp_path / "ant" / name.decode("utf-8", "surrogateescape")
    )
    source = find(tmp_path, validation_share=0)
    batches = list(load(source, 8, 4).train)
    assert sum(len(labels) for _, labels in batches) == 9
    assert not source.bad
    (tmp_path / "ant").rename(tmp_path / "an\udce9t")
    with pytest.raises(ValueError, match=r"an\\udce9t' is not UTF-8"):
        find(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["[1] a.png", "a*b?.png", "two  spaces.png", "new\nline.png", "日本.png", "%.png"],
)
def test_odd_names_of_files_are_read(tmp_path, name):
    classes(tmp_path)
    picture(tmp_path / "ant" / name)
    source = find(tmp_path, validation_share=0)
    assert str(tmp_path / "ant" / name) in source.train.paths
    assert sum(len(x) for x, _ in load(source, 8).train) == 10
    assert not source.bad


def test_links_to_folders_are_followed_for_splits_and_classes(tmp_path):
    classes(tmp_path / "real", 4)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train").symlink_to(tmp_path / "real")
    assert counts(find(tmp_path / "data")) == {"train": 9, "validation": 3}
    (tmp_path / "linked").mkdir()
    for name in ("ant", "bee"):
        (tmp_path / "linked" / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "real/ant/loop").symlink_to(tmp_path / "real/ant")
    (tmp_path / "real/ant/self").symlink_to(tmp_path / "real/ant/self")
    source = find(tmp_path / "linked")
    assert counts(source) == {"train": 6, "validation": 2}


def test_copies_are_reported_and_can_be_dropped(tmp_path):
    classes(tmp_path / "train", 5)
    classes(tmp_path / "test", 1)
    for name in ("same.png", "again.png"):
        (tmp_path / "train/ant" / name).write_bytes(
            (tmp_path / "test/ant/0.png").read_bytes()
        )
    (tmp_path / "train/cat/wrong.png").write_bytes(
        (tmp_path / "train/bee/0.png").read_bytes()
    )
    source = find(tmp_path, validation_share=0)
    test = str(tmp_path / "test/ant/0.png")
    train = tmp_path / "train"
    assert source.duplicates.across_splits == [
        (str(train / "ant/again.png"), test),
        (str(train / "ant/same.png"), test),
    ]
    assert source.duplicates.across_classes == [
        (str(train / "bee/0.png"), str(train / "cat/wrong.png"))
    ]
    dropped = find(tmp_path, validation_share=0, drop_duplicates=True)
    assert set(source.train.paths) - set(dropped.train.paths) == {
        str(train / "ant/again.png"),
        str(train / "ant/same.png"),
    }


def table(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_csv_file_lists_pictures(tmp_path):
    for index in range(4):
        picture(tmp_path / f"pics/{index}.png")
    rows = [f"pics/{index}.png,{'dog' if index % 2 else 'cat'}" for index in range(4)]
    csv = table(tmp_path / "pets.csv", "path,label", *rows)
    source = find(csv)
    assert source.name == "pets"
    assert source.class_names == ["cat", "dog"]
    assert counts(source) == {"train": 2, "validation": 2}
    whole = find(csv, whole=True).train
    assert [path[-5] for path in whole.paths] == ["0", "2", "1", "3"]
    assert whole.labels.tolist() == [0, 0, 1, 1]


def test_a_csv_file_labels_a_flat_folder(tmp_path):
    for index in range(8):
        picture(tmp_path / f"pics/{index}.png")
    picture(tmp_path / "pics/unlabeled.png")
    rows = [
        f"{index};{'dog' if index % 2 else 'cat'};{split}"
        for index, split in enumerate(["Train"] * 4 + ["valid"] * 2 + ["TEST"] * 2)
    ]
    table(tmp_path / "pics/labels.csv", "\ufeffid;breed;split", *rows)
    source = find(f"{tmp_path}/pics:labels.csv")
    assert source.name == "pics"
    assert counts(source) == {"train": 4, "validation": 2, "test": 2}
    assert source.passed_over.describe() == "1 not listed in the CSV file (.png 1)"
    assert list_files(f"{tmp_path}/pics:{tmp_path}/pics/labels.csv").class_names == [
        "cat",
        "dog",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["name,kind", "a,b"], "columns path and label"),
        (["path,label", "0.png,cat", "0.png,dog"], "'dog', and 'cat' in an earlier"),
        (["path,label", "0.png,"], "line 2: a path and a label are needed"),
        (["path,label,split", "0.png,cat,later"], "split must be train, validation"),
        (["path,label", "0.png,cat", "1.png,cat"], "at least two classes.*'cat'"),
        (["path,label,split", "0.png,a,", "1.png,b,", "2.png,c,test"], "unknown: 'c'"),
        (["path,label", "0.png,a", "9.png,b"], r"1 of 2 files.*9\.png: No such file"),
    ],
)
def test_a_csv_file_that_is_not_a_table_of_pictures(tmp_path, lines, message):
    for index in range(3):
        picture(tmp_path / f"{index}.png")
    with pytest.raises(ValueError, match=f"(?s){message}"):
        find(table(tmp_path / "a.csv", *lines))


def test_a_csv_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no CSV file .*a.csv"):
        find(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError, match=r"no CSV file .*labels.csv"):
        find(f"{tmp_path}:labels.csv")


def test_known_classes_need_not_all_be_there(tmp_path):
    classes(tmp_path, 1, names=("bee",))
    listing = list_files(tmp_path, ["ant", "bee", "cat"])
    source = find(listing, whole=True)
    assert source.train.labels.tolist() == [1]
    with pytest.raises(ValueError, match=r"unknown: 'bee'.*'ant', 'cat'"):
        list_files(tmp_path, ["ant", "cat"])


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_is_a_fraction(tmp_path, share):
    classes(tmp_path)
    with pytest.raises(ValueError, match="validation_share"):
        find(tmp_path, validation_share=share)


def test_split_names():
    assert [split_of(x) for x in ("set", "data", "", "rain", "constraint", "1")] == [
        None
    ] * 6
