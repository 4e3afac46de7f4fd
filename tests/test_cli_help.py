"""The help of the command line: groups, examples, choices, and the mistakes it is for."""

import re
import shlex
import subprocess
import sys
import typing
from collections import defaultdict

import pytest
import typer

from allkit.cli.root import GROUPS, root

WHOLE = typer.main.get_command(root)


def commands(command=WHOLE, path=("allkit",)):
    """Every command with the words that call it, those that hold others too."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = {" ".join(path): command for path, command in commands()}


def examples(command):
    _, _, text = command.help.partition("Example:\n")
    return [line.strip() for line in text.splitlines() if line.strip()]


def parameter(path, name):
    return next(p for p in COMMANDS[path].params if name in p.opts)


def choices(path, name):
    """The values that an option takes, as its function declares them."""
    hint = typing.get_type_hints(COMMANDS[path].callback)[parameter(path, name).name]
    literals = [m for m in (hint, *typing.get_args(hint)) if typing.get_origin(m) is typing.Literal]
    return typing.get_args(literals[0])


# ── examples and groups ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", COMMANDS)
def test_every_help_shows_an_example_of_its_own_command_that_can_be_typed(path):
    lines = examples(COMMANDS[path])
    assert lines
    for line in lines:
        assert len(line) <= 78, "it would be wrapped in a terminal of 80 columns"
        words = shlex.split(line)
        assert words[: path.count(" ") + 1] == path.split() or path == "allkit"
        command, words = WHOLE, words[1:]
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        command.make_context(path, words)  # raises where an option or a choice is wrong


def test_an_example_with_a_mistake_would_be_found():
    for words in (["s.csv", "--out", "m", "--strategy", "heads"], ["s.csv", "--aut", "m"], []):
        with pytest.raises(typer.BadParameter.__mro__[1]):
            COMMANDS["allkit train"].make_context("train", words)


@pytest.mark.parametrize("path", COMMANDS)
def test_no_paragraph_of_a_help_is_broken_twice(path):
    _, *further = COMMANDS[path].help.split("\n\n")  # the first one is made one line by typer
    assert [line for text in further for line in text.splitlines() if len(line) > 78] == []


@pytest.mark.parametrize("path", COMMANDS)
def test_a_help_is_shown_with_its_example_on_lines_of_their_own(cli, path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    status, out, err = cli(*path.split()[1:], "--help")
    assert (status, err) == (0, "")
    lines = [line.strip() for line in out.splitlines()]
    at = lines.index("Example:")
    wanted = examples(COMMANDS[path])
    assert lines[at + 1 : at + 1 + len(wanted)] == wanted


def test_the_commands_stand_in_groups_in_the_order_of_the_work(cli, monkeypatch):
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    monkeypatch.setenv("ALLKIT_PLUGINS", "")  # commands of plugins stand in a group of their own
    _, out, _ = cli("--help")
    titles = re.findall(r"^╭─ (\w+) ─", out, re.M)
    assert titles == ["Options", "Start", "Images", "Models", "Use", "Extend"]
    assert titles[1:-1] == list(GROUPS)
    listed = re.findall(r"^│ ([a-z]+)  ", out, re.M)
    assert listed == list(WHOLE.commands)
    assert listed[:6] == ["demo", "doctor", "app", "check", "audit", "clean"]


# ── options ───────────────────────────────────────────────────────────────────────────────────

OF_ONE_COMMAND = {
    "--out": "each command writes something else",
    "--data": "each command does something else with images",
    "--model": "of `audit` only",
    "--column": "each command leaves something else out",
    "--backbone": "`check` and `cache clear` do something else with it",
    "--weights": "`evaluate` and `reproduce` train again with it",
    "--folds": "`split` writes them, and the others use them",
    "--key": "a private one signs, a public one checks",
    "--json": "a file, or a switch where the command only shows something",
    "--port": "of two servers, or of the system that is sent to",
    "--host": "of our server, or of the system that is sent to",
    "--name": "in an address, or in a report",
    "--version": "of allkit, or of a report",
    "--format": "of a model, of a report, of the audit",
    "--case": "`clinic add` adds to it, `clinic part` takes it away",
    "--specimen": "`clinic add` says it, `clinic list` looks for it",
    "--reader": "`clinic assign` gives a case, `clinic list` looks for it",
    "--since": "the day on which something else was done",
    "--until": "the day on which something else was done",
    "--after": "a place in a list, or a row of the audit",
    "--why": "`clinic read` asks for it only against an accepted answer",
    "--to": "a case or a patient",
    "--remove": "a target, or what a person may",
    "--set": "of a training, or of a file format",
    "--part": "of a case, or the name of a plugin's part",
}
"""The options whose text may differ, with the reason."""


def test_an_option_of_several_commands_has_one_text():
    texts = defaultdict(set)
    for command in COMMANDS.values():
        for one in command.params:
            if one.param_type_name == "option":
                texts[max(one.opts, key=len)].add(one.help)
    differing = {name for name, several in texts.items() if len(several) > 1}
    assert differing <= set(OF_ONE_COMMAND)
    assert len(texts["--json"]) == 2
    assert len(texts["--weights"]) == 2


@pytest.mark.slow
def test_the_choices_are_those_of_the_library():
    from allkit.adaptation.refit import STRENGTHS
    from allkit.config import TrainConfig
    from allkit.data.dividing import KeptWhole
    from allkit.plugins.offers import Kind
    from allkit.training.trials import METRICS

    strategies = typing.get_args(TrainConfig.model_fields["strategy"].annotation)
    assert choices("allkit train", "--strategy") == strategies
    assert choices("allkit tune", "--metric") == tuple(METRICS)
    assert choices("allkit adapt", "--strength") == tuple(STRENGTHS)
    assert choices("allkit split", "--by") == typing.get_args(KeptWhole)
    assert choices("allkit plugins new", "--kind") == typing.get_args(Kind)
    assert choices("allkit plugins list", "--kind") == typing.get_args(Kind)


def test_a_choice_that_is_spelt_out_in_the_help_is_the_one_that_is_taken():
    spelt = [
        (path, one)
        for path, command in COMMANDS.items()
        for one in command.params
        if " | " in (one.metavar or "")
    ]
    assert len(spelt) >= 6
    for path, one in spelt:
        assert one.metavar == " | ".join(choices(path, one.opts[0]))


def test_the_recipes_are_named_in_the_help_of_config():
    from allkit.config import recipes

    text = parameter("allkit train", "--config").help
    assert set(re.findall(r"\w+", text)) >= set(recipes())


WRONG = (
    ("train d --out m --strategy", "head, last, full, lora"),
    ("train d --find", "learning-rate, batch-size"),
    ("tune d --out o --metric", "val_loss, accuracy, balanced_accuracy, macro_f1"),
    ("evaluate m d --part", "all, train, val, test"),
    ("adapt m d --out o --strength", "unchanged, weak, medium, strong"),
    ("split d --out s.csv --by", "group, slide, image"),
    ("split d --out s.csv --scheme", "random, leave-one-group-out"),
    ("clean d --out n --marks", "paint, crop, keep"),
    ("clean d --out n --near-duplicates", "keep, drop"),
    ("predict m i --engine", "local, ray"),
    (
        "plugins new allkit-x --kind",
        "backbone, augmentation, view, finder, reader, explainer, exporter",
    ),
    ("plugins list --kind", "command, health-check"),
)


@pytest.mark.parametrize(("command", "named"), WRONG, ids=[c for c, _ in WRONG])
def test_a_wrong_choice_is_told_in_plain_words_with_the_choices(cli, command, named):
    status, out, err = cli(*command.split(), "colour")
    assert (status, out) == (2, "")
    assert err.startswith(f"Error: Invalid value for '{command.split()[-1]}': 'colour'")
    assert err.count("\n") == 1
    assert named in err.replace("'", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict"], "Missing argument 'MODEL'. See: allkit predict --help"),
        (["train", "d", "--epoch", "3"], "No such option: --epoch"),
        (["plugins", "new", "x", "--kinds", "y"], "See: allkit plugins new --help"),
        (["tain"], "No such command 'tain'"),
        (["train", "d", "--epochs", "many"], "'--epochs'"),
    ],
)
def test_a_mistake_in_the_command_line_is_one_line_with_the_way_to_its_help(cli, arguments, words):
    status, out, err = cli(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("Error: ")
    assert words in err
    assert "--help" in err


def test_without_a_command_the_help_is_shown(cli):
    status, out, err = cli()
    assert (status, err) == (2, "")
    assert "Example:" in out


# ── completion, and what it costs ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("allkit ex", {"explain", "export"}),
        ("allkit evaluate m d --part t", {"train", "test"}),
        ("allkit export m --format on", {"onnx"}),
        ("allkit train d --config b", {"best"}),
        ("allkit train d --backbone vgg16-", {"vgg16-wide"}),
        ("allkit plugins n", {"new"}),
    ],
)
def test_the_shell_completes_commands_choices_and_names(cli, monkeypatch, words, offered):
    monkeypatch.setenv("_ALLKIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    status, out, _ = cli()
    assert status == 0
    assert set(out.split()) == offered


def test_neither_help_nor_completion_imports_a_heavy_library():
    heavy = ("torch", "timm", "pandas", "sklearn", "matplotlib", "albumentations", "pyarrow")
    code = (
        "import sys\n"
        "from allkit.cli.root import root\n"
        f"none = {(*heavy, 'numpy', 'pydantic', 'cv2', 'onnxruntime')!r}\n"
        "assert not [n for n in none if n in sys.modules]\n"
        "from allkit.cli.completion import complete_backbone, complete_config, complete_exporter\n"
        "assert complete_exporter('onn') == ['onnx'] and complete_config('qu') == ['quick']\n"
        "assert 'vgg16' in complete_backbone('vgg')\n"
        f"print([n for n in {heavy!r} if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_ctrl_c_says_that_it_stopped(monkeypatch, capsys):
    from allkit.cli import main

    # What typer makes of it: a status, and no word.
    monkeypatch.setattr("allkit.cli.root.root", lambda **settings: 130)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Stopped.\n"


def test_a_question_in_a_mistake_keeps_its_mark(cli):
    status, out, err = cli("trian", "smears.csv")
    assert (status, out) == (2, "")
    assert err == "Error: No such command 'trian'. Did you mean 'train'? See: allkit --help\n"
