"""`predict --explain`: for each picture a file that shows where each output looks."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from keras_inception_cli.predict_inputs import PassedOver, Picture
from keras_inception_cli.predict_report import Answer

if TYPE_CHECKING:
    from keras_inception.export.classifier import ModelClassifier

SUFFIX = "-maps.png"  # other than any picture's own name, so that none is overwritten
_MOST_BYTES = 200  # of a name; file systems take 255


class Explanations:
    """Writes the activation maps of each picture that a model answers.

    Args:
        classifier: A `ModelClassifier`.
        directory: Created when the first file is written.

    Raises:
        ValueError: If an output of the model reads no feature map.
    """

    def __init__(self, classifier: Any, directory: Path):
        from keras_inception.activation_maps import Explainer

        self._classifier: ModelClassifier = classifier
        self._explainer = Explainer(classifier.model)
        self._names = getattr(classifier.model, "output_class_names", {})
        self._directory = directory
        self._written: set[str] = set()

    def others(
        self, pictures: Iterable[Picture], passed_over: PassedOver
    ) -> Iterator[Picture]:
        """Yields the pictures that are not maps, of this run or an earlier one.

        A search finds those if the directory is below a folder that is searched.
        """
        directory = self._directory.resolve()
        for picture in pictures:
            path = Path(picture.name)
            is_map = picture.searched and path.name.endswith(SUFFIX)
            if is_map and path.resolve().parent == directory:
                passed_over.add("maps by --explain")
            else:
                yield picture

    def explain(self, answer: Answer, contents: bytes) -> Answer:
        """Writes the maps of an answered picture, and adds their file to the answer."""
        from keras_inception import html_report
        from keras_inception.evaluation import draw_maps
        from keras_inception.files import write_bytes

        images = self._classifier.decode([contents])
        try:
            found = self._explainer(images)
        except ValueError as error:  # not finite
            return Answer(answer.picture, fault=str(error))
        figure = draw_maps(images, found, self._names, [_title(answer.picture)])
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / self._file_name(answer.picture)
        write_bytes(path, html_report.png(figure))
        return answer._replace(maps=str(path))

    def _file_name(self, picture: str) -> str:
        """A name that this run has not given yet, also where case is ignored."""
        stem = os.fsdecode(os.fsencode(_base(picture))[:_MOST_BYTES])
        name, number = stem + SUFFIX, 1
        while name.casefold() in self._written:
            number += 1
            name = f"{stem}-{number}{SUFFIX}"
        self._written.add(name.casefold())
        return name


def _base(picture: str) -> str:
    """The name of a picture's file without folders and suffix."""
    path = urlsplit(picture).path if "://" in picture else picture
    return PurePath(path).stem or "picture"


def _title(picture: str) -> str:
    name = ascii(_base(picture))[1:-1]
    return name if len(name) <= 24 else f"{name[:21]}..."
