"""The wheel that people install, and the rules of the house read from its files."""

import ast
import configparser
import graphlib
import re
import subprocess
import sys
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


def test_every_dependency_of_a_user_is_in_the_table_of_licenses():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = {**config["options.extras_require"]}
    for of_developers in ("benchmarks", "docs", "test"):
        del extras[of_developers]
    lines = "\n".join([config["options"]["install_requires"], *extras.values()])
    names = re.findall(r"^\w[\w.-]*", lines, re.MULTILINE)
    assert len(names) > 20
    table = (ROOT / "docs/README.md").read_text().split("## Licenses")[1]
    assert [n for n in names if not re.search(rf"\b{re.escape(n)}\b", table)] == []


def test_every_constraint_is_pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in pin for pin in pins)
    assert pins == sorted(pins, key=str.lower)


def core_rooms():
    """The rooms of keras_inception that run on every backend."""
    rooms = (entry for entry in (ROOT / "keras_inception").iterdir())
    packages = {room.name for room in rooms if (room / "__init__.py").is_file()}
    return sorted(packages - {"data", "export", "server"})


@pytest.mark.parametrize("room", ["", *core_rooms()])
@pytest.mark.parametrize("module", ["tensorflow", "torch", "jax", "keras_tuner"])
def test_the_linter_keeps_backends_out_of_the_core(room, module):
    command = [sys.executable, "-m", "ruff", "check", "--output-format", "concise"]
    probe = str(ROOT / "keras_inception" / room / "probe.py")
    code = f"import {module}\n\nprint({module})\n"
    done = subprocess.run(
        [*command, "--stdin-filename", probe, "-"],
        input=code,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "TID253" in done.stdout, done.stdout + done.stderr


PACKAGES = ("keras_inception", "keras_inception_cli", "tuning")


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def ancestors(name):
    """The packages that a module lies in, the outermost first."""
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


def imported(statement):
    """The modules of other people and of ours that an import statement names."""
    if isinstance(statement, ast.Import):
        return {alias.name for alias in statement.names}
    assert statement.level == 0, "imports are absolute here"
    names = {f"{statement.module}.{alias.name}" for alias in statement.names}
    modules = names & set(FILES)
    # a name that is no module comes from the package or module itself
    return modules | ({statement.module} if names - modules else set())


def imports_of(name):
    """Our modules that a module imports anywhere, also within its functions.

    Importing a.b.c runs a and a.b as well, unless the importing module lies in them.
    """
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in imported(node) & set(FILES):
                found |= {target} | (ancestors(target) - ancestors(name))
    return found - {name}


def test_no_import_circle():
    graph = {name: imports_of(name) for name in FILES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


# docs/design.md: a room imports from its own line and from those above it.
LAYERS = [
    "files locks schema text architecture html_report event_files protobuf",
    "graph costs keras_behavior backend layers defaults",
    "outputs rows stages",
    "batches supervision",
    "network networks",
    "weights optimizers",
    "googlenet",
    "endpoints",
    "activation_maps gradients early_exit evaluation",
    "attribution",
    "training",
    "data",
    "export",
    "server",
]
LAYER_OF = {room: layer for layer, line in enumerate(LAYERS) for room in line.split()}
LAYER_OF["__init__"] = LAYER_OF["attribution"]  # `import keras_inception` brings these


def room_of(name):
    return name.split(".")[1] if "." in name else "__init__"


def test_every_room_has_its_layer():
    rooms = {room_of(name) for name in FILES if name.startswith("keras_inception.")}
    assert rooms <= set(LAYER_OF)


def test_the_layers_of_the_design_hold():
    wrong = [
        f"{name} imports {target}"
        for name in FILES
        if name.startswith("keras_inception.")
        for target in imports_of(name)
        if LAYER_OF[room_of(target)] > LAYER_OF[room_of(name)]
    ]
    assert not wrong


def test_commands_and_tuning_stand_on_the_library():
    for name in FILES:
        tops = {target.split(".")[0] for target in imports_of(name)}
        if name.startswith("keras_inception."):
            assert tops <= {"keras_inception"}, name
        if name.startswith("keras_inception_cli"):
            assert "tuning" not in tops, name


def test_tuning_takes_helpers_of_the_command_line_alone():
    helpers = {"", ".common", ".console", ".data_options"}
    for name in FILES:
        if name.split(".")[0] == "tuning":
            taken = {
                target.removeprefix("keras_inception_cli")
                for target in imports_of(name)
                if target.startswith("keras_inception_cli")
            }
            assert taken <= helpers, name


def module_level(tree):
    """The statements that run when a module is imported."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def test_the_core_imports_keras_and_numpy_alone():
    allowed = {"keras", "numpy", "keras_inception", *sys.stdlib_module_names}
    for name, tree in TREES.items():
        if not name.startswith("keras_inception") or "_cli" in name:
            continue
        if room_of(name) in ("data", "export", "server"):
            continue
        for node in module_level(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                tops = {module.split(".")[0] for module in imported(node)}
                assert tops <= allowed, f"{name}:{node.lineno}"


def test_commands_answer_before_keras_is_imported():
    allowed = {"keras_inception_cli", *sys.stdlib_module_names}
    waiting, seen = ["keras_inception_cli"], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for node in module_level(TREES[name]):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = imported(node)
                tops = {module.split(".")[0] for module in modules}
                assert tops <= allowed, f"{name}:{node.lineno}"
                waiting += modules & set(FILES) - seen


PRIVATE = (
    "_keras_history",
    "_inbound_nodes",
    "_flatten_layers",
    "_compile_config",
    "_keras_mask",
    "keras.src",
)


def test_private_names_of_keras_are_in_two_files_alone():
    holders = {
        f"{FILES[name].relative_to(ROOT)}: {private}"
        for name in FILES
        for private in PRIVATE
        if re.search(rf"(?<!\w){re.escape(private)}\b", FILES[name].read_text())
        and name not in ("keras_inception.graph", "keras_inception.keras_behavior")
    }
    assert not holders


def public_functions(tree, owner=""):
    """Functions and methods that a user may call, constructors included."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node, f"{node.name}.")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            called = owner and node.name in ("__init__", "__call__")
            if not node.name.startswith("_") or called:
                yield f"{owner}{node.name}", node


def lacks_annotations(function, *, method):
    arguments = function.args
    static = any(
        isinstance(decorator, ast.Name) and decorator.id == "staticmethod"
        for decorator in function.decorator_list
    )
    listed = [*arguments.posonlyargs, *arguments.args]
    listed = listed[1 if method and not static else 0 :] + arguments.kwonlyargs
    listed += [a for a in (arguments.vararg, arguments.kwarg) if a]
    missing = [argument.arg for argument in listed if argument.annotation is None]
    constructor = function.name == "__init__"
    return missing + ([] if function.returns or constructor else ["return"])


def test_public_functions_are_annotated():
    missing = [
        f"{name}.{function}: {', '.join(lacking)}"
        for name, tree in TREES.items()
        for function, node in public_functions(tree)
        if (lacking := lacks_annotations(node, method="." in function))
    ]
    assert not missing, "\n".join(missing)


def test_files_can_be_read_in_one_sitting():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in FILES.values()
    }
    assert not {path: count for path, count in lengths.items() if count > 300}
