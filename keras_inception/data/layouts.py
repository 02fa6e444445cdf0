"""Which files of a folder belong to which class and split; no file is opened.

A folder holds class folders, or one folder of class folders for each split. A class is
the first folder below the split; folders inside a class folder are searched. Whatever
could be meant in two ways is an error that says what was seen and what to do.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from keras_inception.data.listing import SPLITS, LabeledPaths, Listing
from keras_inception.data.pictures import SUFFIXES
from keras_inception.data.walk import folders_in, walk
from keras_inception.text import list_names, normal_form

IN_NO_CLASS = "in no class folder"
BESIDE_SPLITS = "beside the splits"

_SPLIT_BY_WORD = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "validation"),
    **dict.fromkeys(("test", "tests", "testing", "tst"), "test"),
}
# as in "trainset", "test-images", "val2017"
_FILLERS = ("dataset", "data", "set", "images", "pictures", "split")


def split_of(name: str) -> str | None:
    """The split that a folder's name stands for, in any spelling, or `None`.

    Example:
    >>> split_of("valid"), split_of("Training Set"), split_of("train_station")
    ('validation', 'train', None)
    """
    word = re.sub(r"[\W\d_]", "", name.lower())
    for filler in _FILLERS:
        word = word.removeprefix(filler).removesuffix(filler)
    return _SPLIT_BY_WORD.get(word)


def list_folder(root: Path, class_names: Sequence[str] | None = None) -> Listing:
    """Lists the files of a folder of class folders, or of splits with class folders.

    Args:
        root: The folder.
        class_names: Classes in label order; folders may be missing then, and others are
            an error. By default the classes are the training split's folders by name.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are fewer than two classes or a class without files, or if
            the folder can be read in more than one way.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"There is no folder {str(root)!r}. DATA is a folder with one folder of "
            "pictures per class, FILE.csv with the columns path and label, 'digits' "
            "for the embedded handwritten digits, or 'tfds:NAME' for a dataset of "
            "TensorFlow Datasets."
        )
    names = None if class_names is None else [normal_form(x) for x in class_names]
    splits = _find_splits(root, names or ())
    passed_over = [
        (path, reason or (BESIDE_SPLITS if splits else IN_NO_CLASS))
        for path, reason in walk(root, splits.values() if splits else folders_in(root))
    ]
    by_split: dict[str, LabeledPaths] = {}
    for split, folder in (splits or {"train": root}).items():
        class_folders = _class_folders(folder, names)
        if names is None:  # the training split comes first
            names = list(class_folders)
        if splits:
            passed_over += [
                (path, reason or IN_NO_CLASS)
                for path, reason in walk(folder, class_folders.values())
            ]
        files: LabeledPaths = []
        for name, class_folder in class_folders.items():
            label = names.index(name)
            for path, reason in walk(class_folder):
                if reason:
                    passed_over.append((path, reason))
                else:
                    files.append((path, label))
        by_split[split] = files
    assert names is not None
    return Listing(
        root, root.resolve().name, names, passed_over=passed_over, **by_split
    )


def _find_splits(root: Path, names: Sequence[str]) -> dict[str, Path]:
    """The folder of each split, training first; none if `root` holds classes.

    `names` are the classes that are known.
    """
    split_by_folder = {
        folder: split for folder in folders_in(root) if (split := split_of(folder.name))
    }
    with_classes = [x for x in split_by_folder if _folders_with_files(x)]
    if not any(split_by_folder[folder] == "train" for folder in with_classes):
        # One class may be called "train", which is also a railway's; two such names
        # are splits.
        if with_classes or len(set(split_by_folder.values())) > 1:
            seen = with_classes or list(split_by_folder)
            raise ValueError(
                f"{root} has {_listed(seen)}, which {_reads_as(seen)}, but no training "
                "split: no folder train with one folder of pictures per class. Sort "
                "the pictures into train/CLASS/, or list them in a CSV file with the "
                "columns path, label and split; to evaluate on one split, name its own "
                "folder."
            )
        flat = [
            folder
            for folder, split in split_by_folder.items()
            if split != "train" and normal_form(folder.name) not in names
        ]
        if flat and len(folders_in(root)) > 1:
            raise ValueError(
                f"{root} has class folders and, beside them, {_listed(flat)}, which "
                f"{_reads_as(flat)}, without class folders inside. Move it away, or "
                f"sort the pictures into train/CLASS/ and {flat[0].name}/CLASS/. If it "
                f"is a class, move all class folders into {root.name}/train."
            )
        return {}
    found: dict[str, Path] = {}
    for split in SPLITS:
        folders = [x for x in with_classes if split_by_folder[x] == split]
        if len(folders) > 1:
            raise ValueError(
                f"{root} has several folders for the {split} split: "
                f"{_listed(folders)}. Keep one, or merge them."
            )
        if folders:
            found[split] = folders[0]
    others = [
        folder
        for folder in folders_in(root)
        if folder not in found.values()
        and _has_pictures(folder)
        # Pictures without labels, as competitions publish them, are passed over.
        and split_by_folder.get(folder) != "test"
    ]
    if others:
        raise ValueError(
            f"{root} has the splits {_listed(found.values())}, and beside them "
            f"{_listed(others)} with pictures. Rename it to the split that it is "
            "(train, validation or test, with one folder per class), or move it away."
        )
    return found


def _class_folders(folder: Path, names: Sequence[str] | None) -> dict[str, Path]:
    """The folder of each class in label order; of every class if `names` is None."""
    present = folders_in(folder)
    if names is None:
        if len(present) < 2:
            raise ValueError(_too_few_classes(folder, present))
        _check_not_splits(folder, present)
        _check_not_nested(folder, present)
    else:
        present = [x for x in present if _has_files(x)]
    found: dict[str, Path] = {}
    for class_folder in present:
        name = normal_form(class_folder.name)
        if name in found:
            raise ValueError(
                f"{folder} has two folders called {name!r}, which differ only in how "
                "Unicode writes the name. Merge them."
            )
        if not name.isprintable():
            raise ValueError(
                f"The name of the class folder {str(class_folder)!r} is not UTF-8 or "
                "has control characters. Rename it."
            )
        if not _has_files(class_folder):
            raise ValueError(
                f"The class {name!r} has no pictures: {class_folder} holds no file. "
                "Add some or remove the folder."
            )
        found[name] = class_folder
    if names is None:
        return dict(sorted(found.items()))
    surplus = [name for name in found if name not in names]
    if surplus:
        raise ValueError(
            f"{folder} has classes that are unknown: {list_names(surplus, 5)}. The "
            f"known classes are {list_names(names, 10)}; rename or remove the others."
        )
    return {name: found[name] for name in names if name in found}


def _too_few_classes(folder: Path, present: list[Path]) -> str:
    seen = _listed(present) if present else "no folder"
    message = (
        "A classifier needs at least two classes, one folder of pictures for each. "
        f"Found in {folder}: {seen}"
    )
    if _pictures_in(folder):
        message += (
            " and pictures in no folder. Sort them into class folders, or list them in "
            "a CSV file with the columns path and label."
        )
    elif len(present) == 1 and len(_folders_with_files(present[0])) > 1:
        message += f". Did you mean {present[0]}?"
    return message


def _check_not_splits(folder: Path, class_folders: list[Path]) -> None:
    """Refuses folders whose names differ only in a split: `seg_train`, `seg_test`."""
    alike: dict[tuple[str, ...], dict[Path, str]] = {}
    for class_folder in class_folders:
        words = re.findall(r"[^\W\d_]+", class_folder.name.lower())
        for index, word in enumerate(words):
            rest = (*words[:index], *words[index + 1 :])
            if rest and (split := _SPLIT_BY_WORD.get(word)):
                alike.setdefault(rest, {})[class_folder] = split
    for found in alike.values():
        if len(set(found.values())) > 1:
            raise ValueError(
                f"{folder} has {_listed(found)}, whose names read as splits, not as "
                f"classes. Put splits on top, with a folder for each class: "
                f"{folder.name}/train/CLASS and {folder.name}/test/CLASS; or list the "
                "pictures in a CSV file with the columns path, label and split."
            )


def _innermost(folder: Path) -> Path:
    """Follows folders that hold no picture and a single folder."""
    while len(inside := _folders_with_files(folder)) == 1 and not _pictures_in(folder):
        (folder,) = inside
    return folder


def _check_not_nested(folder: Path, class_folders: list[Path]) -> None:
    """Refuses folders whose classes may be one level further down."""
    inside = {x: [y.name for y in _folders_with_files(x)] for x in class_folders}
    first, *rest = map(set, inside.values())
    same = bool(first) and all(names == first for names in rest)
    if same and (len(first) > 1 or split_of(*first)):
        raise ValueError(
            f"Every folder in {folder} ({_listed(class_folders)}) holds the same "
            f"folders: {list_names(sorted(first), 5)}. Put these on top: splits as "
            f"{folder.name}/train/CLASS, classes as {folder.name}/CLASS; or list the "
            "pictures in a CSV file with the columns path and label."
        )
    # below folders that hold nothing but one folder, as unpacked archives do
    further = {x: _folders_with_files(_innermost(x)) for x in class_folders}
    deepest = max(further, key=lambda x: len(further[x]))
    # Pictures in "unlabeled" lie in no class folder, however deep those are.
    labeled = [x for x in class_folders if "unlabel" not in x.name.lower()]
    if len(further[deepest]) > 1 and not any(map(_pictures_in, labeled)):
        where = _innermost(deepest).relative_to(folder)
        raise ValueError(
            f"It is not clear what the classes in {folder} are: its folders "
            f"({_listed(class_folders)}) or the folders inside them "
            f"({where}: {_listed(further[deepest])}). Move the class folders, or the "
            "pictures, one level up; or list the pictures in a CSV file with the "
            "columns path and label."
        )


def _reads_as(folders: Sequence[Path]) -> str:
    splits = sorted({split_of(folder.name) or "" for folder in folders})
    verb = "read" if len(folders) > 1 else "reads"
    return f"{verb} as {' and '.join(splits)} split{'s' * (len(splits) > 1)}"


def _listed(folders: Iterable[Path]) -> str:
    return list_names([folder.name for folder in folders], 5)


def _folders_with_files(folder: Path) -> list[Path]:
    return [x for x in folders_in(folder) if _has_files(x)]


def _has_files(folder: Path) -> bool:
    return any(reason is None for _, reason in walk(folder))


def _has_pictures(folder: Path) -> bool:
    return any(
        not reason and _is_picture_name(path.name) for path, reason in walk(folder)
    )


def _pictures_in(folder: Path) -> bool:
    """Whether a file directly in the folder is a picture by its name."""
    return any(
        _is_picture_name(name) and not name.startswith(".")
        for name in os.listdir(folder)
    )


def _is_picture_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES
