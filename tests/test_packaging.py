"""The wheel that people install."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source")
    # as a clean clone has it: building in place would pick up what lies around
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in files:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", out, source], check=True)
    return next(out.glob("keras_inception-*.whl"))


def test_the_wheel_holds_the_library_and_the_command_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = next(n for n in names if n.endswith("entry_points.txt"))
        assert b"keras-inception = keras_inception_cli:main" in archive.read(
            entry_points
        )
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"keras_inception", "keras_inception_cli"}
    assert "keras_inception/py.typed" in names
    assert "keras_inception/weights/imagenet.csv" in names
    assert "keras_inception/data/pictures.py" in names
    assert "keras_inception/server/page.html" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_installed_wheel_runs_outside_the_checkout(wheel, tmp_path):
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--target", target, wheel], check=True)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import keras_inception_cli\n"
        "assert keras_inception_cli.__file__.startswith(sys.argv[1])\n"
        "keras_inception_cli.main(['--help'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(target)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for command in ("train", "evaluate", "predict", "export", "serve"):
        assert command in done.stdout


def test_every_constraint_is_pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in pin for pin in pins)
    assert pins == sorted(pins, key=str.lower)


def test_the_core_is_guarded_by_the_linter():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    exempt = settings["lint"]["per-file-ignores"]
    allowed = ("data", "export", "server")
    for pattern in exempt:
        if pattern.startswith("keras_inception/"):
            assert pattern.split("/")[1].removesuffix(".py") in allowed
