"""Every block of code in the pages: Python compiles, commands parse, and each runs or says why not."""

import functools
import os
import re
import shutil
import tomllib
import warnings
from pathlib import Path

import pytest

blocks = pytest.importorskip("blocks", reason="tests/ is not on the path")
ROOT = blocks.ROOT
ALL = [block for page in blocks.pages() for block in blocks.blocks_of(page)]
PYTHON = [block for block in ALL if block.language == "python"]
LINES = [(block, line) for block in ALL for line in block.commands]
# A call of the command line: at the beginning, behind variables, or what another program starts.
ALLKIT = re.compile(r"^(?:[A-Z_]+=\S+ )*allkit |(?:-m|--) allkit ")
# The pages name backbones with real weights; here a tiny one takes their place.
TINY = {
    'backbone="vgg16"': 'backbone="timm:test_resnet", weights="none"',
    "BLOCK = 25": "BLOCK = 6",
}
SMALL = ("--backbone", "timm:test_resnet", "--weights", "none")


def test_there_are_blocks_of_both_kinds():
    assert len(PYTHON) > 25
    assert len(LINES) > 120


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_block_of_python_compiles(block):
    text = block.text
    if text.startswith("    "):  # the body of a function
        text = f"def body():\n{text}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile("\n" * block.line + text, str(block.page), "exec")


@functools.cache
def whole():
    """The whole command line, which takes a moment to build."""
    import typer

    from allkit.cli.root import root

    return typer.main.get_command(root)


def parse(words):
    """Let the command line itself read the words, without doing anything."""
    command, parent = whole(), None
    name, rest = "allkit", list(words)
    while True:
        inner = getattr(command, "commands", {})
        if not (inner and rest and rest[0] in inner):
            break
        parent = command.make_context(name, [], parent=parent, resilient_parsing=True)
        name = rest.pop(0)
        command = inner[name]
    return command.make_context(name, rest, parent=parent)


@pytest.mark.parametrize(
    ("block", "line"), [(b, x) for b, x in LINES if ALLKIT.search(x)],
    ids=lambda one: str(one),
)  # fmt: skip
def test_a_command_of_allkit_is_one(block, line, monkeypatch, tmp_path):
    import typer

    _, words, _ = blocks.words_of(line[ALLKIT.search(line).end() - len("allkit ") :])
    if words[1:] in (["--help"], ["--version"]) or "--help" in words or "completion" in words[1]:
        return
    monkeypatch.chdir(tmp_path)
    try:
        parse([word for word in words[1:] if word != "…"])
    except typer.BadParameter.__mro__[2] as error:
        pytest.fail(f"{block}: {line}\n{error.format_message()}")


def test_what_is_installed_and_made_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong = []
    for block, line in LINES:
        for names in re.findall(r"(?:allkit|\.)\[([\w,-]+)\]", line):
            wrong += [f"{block}: the extra {n}" for n in names.split(",") if n not in extras]
        if line.startswith("make ") and line.split()[1] not in targets:
            wrong.append(f"{block}: {line}")
        for script in re.findall(r"python3? ((?:benchmarks|docs|tests|examples)/\S+\.py)", line):
            if not (ROOT / script).is_file():
                wrong.append(f"{block}: {script}")
    assert wrong == []


def test_a_reason_not_to_run_is_a_sentence():
    short = [
        str(block) for block in ALL if block.mark.startswith("<!-- not") and len(block.excuse) < 10
    ]
    assert short == []
    reasons = [*blocks.ELSEWHERE.values(), *(block.excuse for block in ALL)]
    named = {name for reason in reasons for name in re.findall(r"tests/\w+\.py", reason)}
    assert len(named) > 8
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []


@pytest.fixture(scope="module")
def scene(tiny_settings, tiny_onnx, tmp_path_factory):
    """A folder with what the pages speak of: images, tables, a model and its file."""
    import pandas as pd

    import allkit
    from allkit.data.drawn import write_smears

    folder = tmp_path_factory.mktemp("scene")
    table = pd.read_csv(write_smears(folder / "smears", 96, groups=24, seed=0))
    images = [folder / "smears" / name for name in table["image"]]
    table["slide"] = table["series"] = table["group"]
    table["image"] = "smears/" + table["image"]
    for name in ("smears.csv", "index.csv", "fields.csv", "ours.csv", "training.csv"):
        table.to_csv(folder / name, index=False)
    for image, label in zip(images, table["label"], strict=True):
        place = folder / "Original" / label / image.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, place)
    for name in ("fields", "new-images", "folder-of-images", "patients/one", "patients/two"):
        (folder / name).mkdir(parents=True)
        for image in images[:8]:
            shutil.copy(image, folder / name)
    for name in ("field.png", "smear.png"):
        shutil.copy(images[0], folder / name)
    split = allkit.Dataset.open(folder / "smears.csv").split(test=0.34, seed=0)
    split.to_csv(folder / "split.csv")
    model = allkit.Trainer(**tiny_settings).fit(split.train)
    for name in ("model", "other-model"):
        model.save(folder / name)
    for name in ("model.onnx", "small.onnx", "student.onnx"):
        shutil.copy(tiny_onnx, folder / name)
    return folder


# What the pages call by a word, and what is smaller or elsewhere in the tests.
WORDS = {"DATA": "index.csv", "MODEL": "model", "/mnt/backups/2026-02-01": "backup"}
CLINIC = (  # what the pages on a clinic begin with
    ("clinic", "init"),
    ("clinic", "person", "anna", "--role", "reader", "--role", "signer"),
    ("clinic", "model", "model.onnx"),
)


class Page:
    """Runs the blocks of a page in one folder and one namespace, as its reader would."""

    def __init__(self, cli, capsys, monkeypatch):
        self.cli, self.capsys, self.monkeypatch = cli, capsys, monkeypatch
        self.names = {"__name__": "page"}

    def run(self, block):
        if block.language == "python":
            code = block.text
            for word, small in TINY.items():
                code = code.replace(word, small)
            for name in re.findall(r"\.save\(\"([\w-]+)\"\)", code):
                shutil.rmtree(name, ignore_errors=True)  # of the scene
            # The empty lines in front make a traceback name the line of the page.
            exec(compile("\n" * block.line + code, str(block.page), "exec"), self.names)
            self.capsys.readouterr()
        for line in block.commands:
            if not blocks.elsewhere(line):
                self.command(block, line)

    def command(self, block, line):
        if line.startswith("export "):
            name, _, value = line[7:].split("#")[0].strip().partition("=")
            self.monkeypatch.setenv(name, os.path.expanduser(value))
            return
        _, words, target = blocks.words_of(line)
        words = [WORDS.get(word, word) for word in words]
        if words[1] == "check" and words[2] == "smears/":
            words[2] = "Original"
        if words[1] in ("train", "tune") and not {"--find", "--print-config"} & set(words):
            for name in ("--backbone", "--weights", "--trials"):
                if name in words:
                    del words[words.index(name) : words.index(name) + 2]
            words += SMALL
            words += ("--trials", "2") if words[1] == "tune" else ()
            words += ("--set", "finetune_epochs=2") if "--strategy" in words else ()
        made = Path(words[words.index("--out") + 1]) if "--out" in words else None
        if made and made.exists() and "--resume" not in words:  # of the scene, or of another block
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        status, out, err = self.cli(*words[1:])
        assert status in (0, 1), f"{block}: {line}\n{err}"
        if target:
            Path(target).write_text(out)


@pytest.fixture
def page(cli, capsys, monkeypatch, tmp_path):
    """What runs blocks, in a folder of its own."""
    monkeypatch.setenv("ALLKIT_CLINIC", str(tmp_path / "clinic"))
    monkeypatch.chdir(tmp_path)
    return Page(cli, capsys, monkeypatch)


def todo(chosen):
    """The pages that have such blocks."""
    found = dict.fromkeys(block.page for block in ALL if chosen(block))
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in found]


def runs(block):
    """Whether something of a block is run at all."""
    if block.excuse:
        return False
    return block.language == "python" or any(not blocks.elsewhere(x) for x in block.commands)


@pytest.mark.slow
@pytest.mark.parametrize("path", todo(lambda block: block.runs_at_once))
def test_the_blocks_that_take_seconds_run(path, page, drawn):
    shutil.copytree(drawn.parent, "smears")
    for block in ALL:
        if block.page == path and block.runs_at_once:
            page.run(block)


# tests/test_tutorials.py follows the tutorial of plugins word for word.
@pytest.mark.nightly
@pytest.mark.parametrize("path", todo(lambda b: runs(b) and b.page.name != "plugin.md"))
def test_all_blocks_of_a_page_run(path, page, scene, tiny):
    import allkit

    shutil.copytree(scene, ".", dirs_exist_ok=True)
    data = allkit.Dataset.open("split.csv")
    page.names |= {"model": tiny, "image": data.read(0), "labels": data.label_names}
    page.names["paths"] = [str(sample.image) for sample in data]
    page.names["slides"] = list(data.to_frame()["group"])
    page.names["split"] = allkit.Split.of(data, "group", 0)
    if path.name in ("clinic-quality.md", "laboratory-it.md"):
        for words in CLINIC:
            assert page.cli(*words)[0] == 0
    for block in ALL:
        if block.page == path and runs(block):
            page.run(block)
