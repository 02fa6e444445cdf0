"""Classify pictures with a .keras model, an exported directory or a server.

Prints the best classes of each picture. One that can't be read is reported on stderr,
the others are answered, and the exit status is 1.
"""

import argparse
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from keras_inception_cli import common, console
from keras_inception_cli.predict_explain import Explanations
from keras_inception_cli.predict_inputs import (
    PassedOver,
    Picture,
    are_common_files,
    contents_of,
    find,
)
from keras_inception_cli.predict_remote import Server
from keras_inception_cli.predict_report import Answer, Table, print_answer

if TYPE_CHECKING:
    from tqdm import tqdm

    from keras_inception.export.classifier import Classifier

BATCH_SIZE = 32
REQUESTS = 8  # at once, to a server, or for pictures at addresses
WITHOUT_PROGRESS = 16  # so few pictures need no bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `predict`."""
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="a .keras file, an exported version, or the directory of its versions; "
        "omitted with --url",
    )
    add(
        "paths",
        metavar="PATH",
        nargs="*",
        help="picture files, folders (searched for pictures), quoted patterns such as "
        "'pics/**/*.jpg', and http:// or https:// addresses of pictures",
    )
    add(
        "--url",
        help="use a running server instead, TF Serving or keras-inception serve: "
        "http://HOST:PORT/v1/models/NAME",
    )
    add(
        "--early-exit",
        action="store_true",
        help="with --url: ask for early exits, and tell which output answered; the "
        "model must have been exported with them",
    )
    add(
        "--top",
        type=int,
        default=3,
        metavar="K",
        help="classes per picture (default: 3)",
    )
    add(
        "--batch-size",
        type=int,
        metavar="N",
        help=f"pictures per batch (default: {BATCH_SIZE}); not with --url",
    )
    add("--json", action="store_true", help="print a JSON object per picture instead")
    add(
        "--csv",
        type=Path,
        metavar="FILE",
        help="also write a row per picture: picture, class_1, score_1 and so on up to "
        "K, error",
    )
    add(
        "--explain",
        type=Path,
        metavar="DIR",
        help="also write a picture for each one into DIR, NAME-maps.png: where each "
        "output of MODEL, a .keras file, finds the class that it answers",
    )


def run(options: argparse.Namespace) -> int:
    """Prints the most probable classes of each picture; returns 1 if one failed."""
    if options.url and options.batch_size is not None:
        raise ValueError("--batch-size is not for --url: the server forms batches.")
    if options.early_exit and not options.url:
        raise ValueError(
            "--early-exit is for --url: in Python EarlyExit.predict answers early."
        )
    if options.batch_size is None:
        options.batch_size = BATCH_SIZE
    common.check_at_least(options, {"top": 1, "batch_size": 1})
    common.check_folders(options, "csv")
    _check_explain(options)
    words = [options.model, *options.paths] if options.url else options.paths
    if not words:
        raise ValueError("predict needs a MODEL and at least one PATH of a picture")
    model: Classifier | Server
    if options.url:
        model = Server(options.url, options.early_exit)
    else:
        model = _load(options.model)
    explanations = Explanations(model, options.explain) if options.explain else None
    as_they_are = bool(options.url) and not options.csv and are_common_files(words)
    if not as_they_are:
        with console.quiet_start():  # here, since it hides what other threads print
            import keras_inception.data  # noqa: F401
    passed_over = PassedOver()
    pictures = find(words, passed_over)
    if explanations:
        pictures = explanations.others(pictures, passed_over)
    answer = partial(_answer, model, options.top, as_they_are, explanations)
    if options.url:  # the server forms batches
        answers = _in_order(answer, _batches(pictures, 1), REQUESTS)
    else:  # one thread decodes while the other computes, but maps are made in order
        threads = 1 if explanations else 2
        answers = _in_order(answer, _batches(pictures, options.batch_size), threads)
    columns = min(options.top, model.classes or options.top)
    given = {"maps": options.explain, "exit": options.early_exit}
    table = Table(columns, [name for name, is_given in given.items() if is_given])
    with contextlib.closing(answers), table, _progress(words) as bar:
        answered, failed = _report(answers, options.json, table, bar, passed_over)
        if text := str(passed_over):
            print(f"passed over: {text}", file=sys.stderr)
        if not answered and not failed:
            raise ValueError(f"there is no picture in {', '.join(words)}")
        wrote = sys.stderr if options.json else sys.stdout
        if options.csv:
            table.write(options.csv)
            print(f"wrote {options.csv}", file=wrote)
        if explanations and answered:
            print(f"wrote {options.explain}", file=wrote)
    return 1 if failed else 0


def _check_explain(options: argparse.Namespace) -> None:
    """Raises a `ValueError` if `--explain` can't be followed, before any work."""
    if options.explain is None:
        return
    if options.url or os.path.isdir(options.model):
        raise ValueError(
            "--explain needs MODEL as a .keras file: an export and a server have main "
            "alone, and no gradients."
        )
    common.check_output_folder(options, "explain")


def _report(
    answers: Iterable[list[Answer]],
    as_json: bool,
    table: Table,
    bar: "tqdm",
    passed_over: PassedOver,
) -> tuple[int, int]:
    """Prints answers as they come; returns how many there are, and how many faults."""
    answered = failed = 0
    for batch in answers:
        with bar.external_write_mode():
            for answer in batch:
                if not answer.classes and answer.fault is None:
                    passed_over.add_other(answer.picture)
                    continue
                print_answer(answer, as_json)
                table.add(answer)
                answered += answer.fault is None
                failed += answer.fault is not None
            sys.stdout.flush()
        bar.update(len(batch))
    bar.clear()
    return answered, failed


def _load(path: str) -> "Classifier":
    if "://" in path and not os.path.exists(path):
        raise ValueError(
            f"MODEL is a file or a directory; ask a server by --url {path}"
        )
    with console.quiet_start():
        from keras_inception import export

    if os.path.isdir(path) or path.endswith((".onnx", ".xml", ".tflite")):
        return export.load_classifier(path)
    return export.ModelClassifier(common.load_model(path))


def _progress(words: list[str]) -> "tqdm":
    known = sys.stderr.isatty()  # else nobody sees it
    total = sum(1 for _ in find(words, PassedOver())) if known else 0
    return console.progress_bar("predicting", total, hidden_up_to=WITHOUT_PROGRESS)


def _answer(
    model: "Classifier | Server",
    top: int,
    as_they_are: bool,
    explanations: Explanations | None,
    pictures: list[Picture],
) -> list[Answer]:
    """Answers a batch in order; used by several threads."""
    read = partial(_read, as_it_is=as_they_are)
    if len(pictures) > 1 and any(picture.is_address for picture in pictures):
        with ThreadPoolExecutor(REQUESTS) as pool:
            contents = list(pool.map(read, pictures))
    else:
        contents = list(map(read, pictures))
    files = [x for x in contents if isinstance(x, bytes)]
    ranked = _rank(model, files, top)
    answers = []
    for picture, x in zip(pictures, contents, strict=True):
        if isinstance(x, Answer):
            answers.append(x)
            continue
        classes, fault = next(ranked)
        exit = getattr(classes, "exit", None)
        answer = Answer(picture.name, classes, fault, exit=exit)
        if explanations and answer.fault is None:
            answer = explanations.explain(answer, x)
        answers.append(answer)
    return answers


def _read(picture: Picture, as_it_is: bool) -> bytes | Answer:
    try:
        contents = contents_of(picture, as_it_is)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Answer(picture.name, fault=reason)
    return Answer(picture.name) if contents is None else contents


def _rank(
    model: "Classifier | Server", files: list[bytes], top: int
) -> Iterator[tuple]:
    """Yields classes and fault for each file; halves a batch until one file fails."""
    if not files:
        return
    try:
        yield from ((classes, None) for classes in model.rank(files, top))
    except ValueError as error:
        if len(files) == 1:
            yield [], str(error)
        else:
            middle = len(files) // 2
            yield from _rank(model, files[:middle], top)
            yield from _rank(model, files[middle:], top)


def _batches(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    iterator = iter(pictures)
    while batch := list(islice(iterator, size)):
        yield batch


def _in_order(
    answer: Callable[[list[Picture]], list[Answer]],
    batches: Iterable[list[Picture]],
    threads: int,
) -> Generator[list[Answer], None, None]:
    """Yields the answers of each batch in order; works a few batches ahead."""
    pending: deque[Future[list[Answer]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for batch in batches:
            pending.append(pool.submit(answer, batch))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
