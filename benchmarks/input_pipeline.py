"""The input pipeline compared with PyTorch's, in turns.

    python -m benchmarks.input_pipeline [FOLDER] [--memory]

Ours: `paper` augmentation to 224 pixels (crop, one of four resizing methods, mirror,
color). The peer: torch's DataLoader with as many worker processes as tf.data gets
threads, and torchvision's RandomResizedCrop and RandomHorizontalFlip written with
Pillow, which is less work, as colors stay. Both read the same files and make float32
batches of 32. Timing starts at the first batch of a long pass, once queues are full.

FOLDER is searched for pictures; each is linked `--passes` times to make one long pass.
Without FOLDER, photographs are generated. Medians and the ratio are written to
benchmarks/results/input_pipeline.csv, with the machine and the versions. With --memory
it measures the growth of memory over 20,000 pictures instead.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
import torch
from PIL import Image

import keras_inception as ki
from benchmarks.tables import RESULTS, environment, versions, write

WORKERS = 2
PEERS = ("torch", "pillow")
BATCH = 32
IMAGE_SIZE = 224


class Photographs(torch.utils.data.Dataset):
    """Random crops of picture files as torchvision makes them, with Pillow only."""

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as file:
            picture = file.convert("RGB")
        left, top, width, height = self._crop(*picture.size)
        picture = picture.crop((left, top, left + width, top + height))
        picture = picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
        if torch.rand(()) < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        return pixels.to(torch.float32) / 255, 0

    @staticmethod
    def _crop(width, height):
        """8 to 100 % of the area, 3:4 to 4:3: ten attempts, else the center."""
        for _ in range(10):
            area = width * height * float(torch.empty(()).uniform_(0.08, 1))
            ratio = float(
                torch.exp(torch.empty(()).uniform_(np.log(3 / 4), np.log(4 / 3)))
            )
            w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if 0 < w <= width and 0 < h <= height:
                left = int(torch.randint(0, width - w + 1, ()))
                return left, int(torch.randint(0, height - h + 1, ())), w, h
        edge = min(width, height)
        return (width - edge) // 2, (height - edge) // 2, edge, edge


def class_folders(folder: Path | None, passes: int, root: Path) -> Path:
    """Two classes of links to the pictures of a folder, or to generated ones."""
    if folder:
        paths = sorted(
            path.resolve()
            for path in folder.rglob("*")
            if path.suffix.lower() in (".jpg", ".jpeg")
        )
    else:
        paths = [
            generate_photograph(root / f"made-up-{index}.jpg", index)
            for index in range(200)
        ]
    for index, path in enumerate(paths * passes):
        link = root / "pictures" / "ab"[index % 2] / f"{index:06}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return root / "pictures"


def generate_photograph(path: Path, seed: int) -> Path:
    """Writes a JPEG of 500x375 pixels, about as detailed as a photograph."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (47, 63, 3), "uint8"))
    smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), "float32")
    noisy = smooth + random.normal(0, 8, smooth.shape)
    Image.fromarray(noisy.clip(0, 255).astype("uint8")).save(path, quality=90)
    return path


def our_batches(folder: Path):
    """The pipeline of `train`, with fixed parallelism for a fair comparison."""
    data = ki.data.load(
        folder, IMAGE_SIZE, BATCH, augment="paper", validation_share=0.005
    )
    options = tf.data.Options()
    options.threading.private_threadpool_size = WORKERS
    options.threading.max_intra_op_parallelism = 1
    return data.train.with_options(options)


def speed_of_ours(dataset) -> tuple[float, float]:
    """Our pictures per second, and milliseconds of processor time per picture."""
    used = processor_seconds()
    iterator = iter(dataset)
    speed, count = speed_of(iterator)
    del iterator
    return speed, 1000 * (processor_seconds() - used) / count


def speed_of_torch(paths: list[str]) -> tuple[float, float]:
    """The same for the DataLoader, its worker processes included."""
    used = processor_seconds()
    loader = torch.utils.data.DataLoader(
        Photographs(paths), BATCH, shuffle=True, num_workers=WORKERS
    )
    iterator = iter(loader)
    speed, count = speed_of(iterator)
    del iterator  # stops the workers, whose time counts once they have ended
    return speed, 1000 * (processor_seconds() - used) / count


def speed_of(batches: Iterator) -> tuple[float, int]:
    """Pictures per second after the first batch, and the number of all pictures."""
    first, _ = next(batches)
    started, count = time.perf_counter(), 0
    for images, _ in batches:
        count += len(images)
    return count / (time.perf_counter() - started), count + len(first)


def speed_of_training(images, steps: int = 4) -> float:
    """Pictures per second in training the whole network on this machine."""
    model = ki.GoogLeNet(classes=1000)
    model.compile("sgd")
    labels = np.zeros(len(images), "int32")
    model.train_on_batch(images, labels)  # traces the graph
    started = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(images, labels)
    return steps * len(images) / (time.perf_counter() - started)


def processor_seconds() -> float:
    """Processor time of this process and of its child processes that have ended."""
    times = os.times()
    return sum(times[:4])


def resident_megabytes() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure_memory(folder: Path) -> None:
    dataset = our_batches(folder)
    seen, rows, due = 0, [], 0
    while seen < 20_000:
        for images, _ in dataset:
            seen += len(images)
            if seen >= due:
                rows.append(
                    {"pictures": seen, "resident_mb": round(resident_megabytes())}
                )
                print(
                    f"{seen:>6} pictures  {rows[-1]['resident_mb']:.0f} MB", flush=True
                )
                due += 2_000
    about = environment() | versions(PEERS)
    write(RESULTS / "input_pipeline_memory.csv", [row | about for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--passes", type=int, default=10, help="links to each picture (default: 10)"
    )
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        folder = class_folders(options.folder, options.passes, Path(root))
        if options.memory:
            measure_memory(folder)
            return
        dataset = our_batches(folder)
        paths = [str(path) for path in sorted(folder.rglob("*.jpg"))]
        next(iter(dataset))  # traces the graph
        ours, theirs = [], []
        for number in range(options.rounds):
            ours.append(speed_of_ours(dataset))
            theirs.append(speed_of_torch(paths))
            print(
                f"round {number + 1}: ours {ours[-1][0]:6.1f} pictures/s, "
                f"{ours[-1][1]:.2f} ms of processor each; DataLoader "
                f"{theirs[-1][0]:6.1f}, {theirs[-1][1]:.2f} ms",
                flush=True,
            )
        training = speed_of_training(next(iter(dataset))[0])
    (our_speeds, our_costs), (speeds, costs) = (
        zip(*rounds, strict=True) for rounds in (ours, theirs)
    )
    ratios = [a / b for a, b in zip(our_speeds, speeds, strict=True)]
    row = {
        "pictures": str(options.folder.name if options.folder else "made up"),
        "workers": WORKERS,
        "rounds": options.rounds,
        "ours_per_second": round(statistics.median(our_speeds), 1),
        "dataloader_per_second": round(statistics.median(speeds), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ours_cpu_ms": round(statistics.median(our_costs), 2),
        "dataloader_cpu_ms": round(statistics.median(costs), 2),
        "training_per_second": round(training, 1),
        "load_average": round(os.getloadavg()[0], 1),
    }
    print(
        f"median: ours {row['ours_per_second']} pictures/s, {row['ours_cpu_ms']} ms; "
        f"DataLoader {row['dataloader_per_second']}, {row['dataloader_cpu_ms']} ms; "
        f"ratio of the speeds {row['ratio']}; training GoogLeNet: "
        f"{row['training_per_second']} pictures/s"
    )
    about = environment() | versions(PEERS)
    write(RESULTS / "input_pipeline.csv", [row | about])


if __name__ == "__main__":
    main()
