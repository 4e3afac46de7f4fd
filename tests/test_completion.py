"""What Bash, Zsh and Fish offer while a command is typed, each by its own way of asking."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CASES = [
    ("allkit ex", {"explain", "export"}),
    ("allkit export m --form", {"--format"}),
    ("allkit evaluate m d --part t", {"train", "test"}),
    ("allkit train d --backbone vgg16-", {"vgg16-wide"}),
    ("allkit export m --format on", {"onnx"}),
    ("allkit clinic reo", {"reopen"}),
]
HEAVY = ("torch", "timm", "pandas", "sklearn", "matplotlib", "numpy", "cv2", "onnxruntime")


def asked(shell, words):
    """The variables by which a shell asks what may stand where the last word begins."""
    if shell == "bash":
        return {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    action = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    return {"_TYPER_COMPLETE_ARGS": words} | action


def offered(shell, text):
    """The words that a shell makes of an answer, without the sentences that explain them."""
    if shell == "zsh":  # _arguments '*: :(("WORD":"what it is"\n"WORD":…))'
        return set(re.findall(r'(?:\(\(|\n)"([\w-]+)"', text))
    return {line.partition("\t")[0] for line in text.splitlines() if line}


@pytest.mark.parametrize(("words", "wanted"), CASES, ids=[words for words, _ in CASES])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_offered_what_may_follow(cli, monkeypatch, shell, words, wanted):
    monkeypatch.setenv("_ALLKIT_COMPLETE", f"complete_{shell}")
    for name, value in asked(shell, words).items():
        monkeypatch.setenv(name, value)
    status, out, _ = cli()
    assert status == 0
    assert offered(shell, out) == wanted


@pytest.mark.slow
def test_a_real_bash_completes(monkeypatch):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no Bash on this machine")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    lines = 'eval "$(allkit --show-completion)"; COMP_WORDS=(allkit ev); COMP_CWORD=1'
    done = subprocess.run(
        [bash, "--norc", "-c", f"{lines}; _allkit_completion allkit; echo ${{COMPREPLY[@]}}"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["evaluate"], done.stderr


@pytest.mark.parametrize(
    "words", ["allkit ex", "allkit export m --form", "allkit train d --backbone vgg"]
)
def test_commands_options_and_backbones_are_offered_without_anything_heavy(words):
    code = (
        "import sys\nfrom allkit.cli import main\ntry: main()\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"_ALLKIT_COMPLETE": "complete_bash"} | asked("bash", words),
    )
    assert done.stdout.strip()
    assert done.stderr.strip() == "[]"
