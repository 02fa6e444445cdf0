"""Classifies any number of picture files on one machine or several, with Ray Data.

    pip install '.[ray]'
    python examples/score_with_ray.py saved_models/flowers pictures answers --workers 2

MODEL is an export. Every picture below FOLDER gets a line in one of the CSV files in
OUT: its path, its best classes and their scores, or why it has none. Pictures are read
and answered as workers become free, so they need not fit in memory. A worker that dies
is replaced, and what it had not delivered is answered again: no picture is lost, and
none has two lines. On a cluster (`ray start` on each machine) FOLDER, MODEL and OUT
must be the same paths everywhere, or addresses such as s3://bucket/pictures.
"""

import argparse

import numpy as np
import ray

SUFFIXES = ["jpg", "jpeg", "png", "gif", "bmp", "webp"]


class Classify:
    """A worker: loads the model once, then answers batch after batch."""

    def __init__(self, model: str, top: int):
        from keras_inception import export

        self.classifier = export.load_classifier(model)
        self.top = min(top, self.classifier.classes or top)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list]:
        files = batch["bytes"].tolist()
        try:
            answers = self.classifier.rank(files, self.top)
        except ValueError:  # one of them is damaged: the others are not at fault
            answers = [self._alone(file) for file in files]
        columns: dict[str, list] = {"path": batch["path"].tolist(), "fault": []}
        for answer in answers:
            is_fault = isinstance(answer, str)
            columns["fault"].append(answer if is_fault else "")
            pairs = [("", float("nan"))] * self.top if is_fault else answer
            for rank, (name, score) in enumerate(pairs, 1):
                columns.setdefault(f"class_{rank}", []).append(name)
                columns.setdefault(f"score_{rank}", []).append(score)
        return columns

    def _alone(self, file: bytes) -> str | list[tuple[str, float]]:
        try:
            return self.classifier.rank([file], self.top)[0]
        except ValueError as error:
            return str(error)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="an export: saved_models/NAME or a version")
    parser.add_argument("folder", help="holds the pictures, at any depth")
    parser.add_argument("out", help="the folder of the CSV files")
    help_text = "processes with a model each (default: 2)"
    parser.add_argument("--workers", type=int, default=2, help=help_text)
    help_text = "pictures that are answered together (default: 64)"
    parser.add_argument("--batch-size", type=int, default=64, help=help_text)
    help_text = "classes for each picture (default: 5)"
    parser.add_argument("--top", type=int, default=5, help=help_text)
    options = parser.parse_args()
    pictures = ray.data.read_binary_files(
        options.folder, include_paths=True, file_extensions=SUFFIXES
    )
    answers = pictures.map_batches(
        Classify,
        fn_constructor_args=(options.model, options.top),
        batch_size=options.batch_size,
        # With a whole one each, workers on all cores would leave none for reading, and
        # Ray would wait forever.
        num_cpus=0.5,
        compute=ray.data.ActorPoolStrategy(size=options.workers),
    )
    answers.write_csv(options.out)


if __name__ == "__main__":
    main()
