"""The blocks of code in the pages: which there are, and what runs, parses or says why it does not."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Generated from the commands; records; what `benchmarks/` measured: none is a text to follow.
RECORDS = ("reference/cli.md", "figures.md", "figures-former.md", "explanation/attacks.md")
FENCE = re.compile(
    r"(?:^(?P<mark><!-- (?:run|not run: [^>]+) -->)\n+)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
SHELL = ("", "sh", "bash", "text", "console", "powershell")
COMMAND = re.compile(
    r"^(?:\$ )?((?:[A-Z_]+=\S+ )*(?:allkit|pip|make|python3?|accelerate|torchrun|export|sudo|curl) .*|make)$"
)

# What a command line begins with, and why the tests do not run it.
ELSEWHERE = {
    "pip": "installs; that the extra is there is tested",
    "make": "builds the environment that the tests run in; that the target is there is tested",
    "python3 -m venv": "makes an environment; `make demo` does so too",
    "python -m venv": "makes an environment; `make demo` does so too",
    "python benchmarks/": "measures for minutes to days on real images; that the script is there is tested",
    "python docs/": "tests/test_docs.py runs it",
    "python tests/": "tests/test_no_route_out.py runs it",
    "accelerate": "tests/test_strategies.py compares one process with two",
    "torchrun": "tests/test_strategies.py compares one process with two",
    "curl": "asks a server that is running",
    "sudo": "changes the machine",
    "allkit serve": "answers until it is ended; tests/test_serving.py asks it",
    "allkit app": "answers until it is ended; tests/test_workplace_browser.py works in it",
    "allkit demo --download": "needs the network",
    "allkit --install-completion": "changes the user's shell",
    "RAY_ADDRESS=": "needs a cluster; tests/test_volume.py starts one",
    "allkit clinic receive": "listens until it is ended",
    "allkit clinic send": "needs the other system",
}


@dataclass(frozen=True)
class Block:
    """One fenced block: its page, the line it begins on, its language, its mark and its text."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def runs_at_once(self):
        return self.mark == "<!-- run -->"

    @property
    def excuse(self):
        """Why it is not run, in words, or nothing."""
        found = re.match(r"<!-- not run: (.+) -->", self.mark)
        return found[1] if found else ""

    @property
    def commands(self):
        """Its command lines, without the prompt and with continued lines joined."""
        if self.language not in SHELL:
            return []
        lines = re.sub(r" \\\n\s*", " ", self.text).splitlines()
        prompts = any(line.startswith("$ ") for line in lines)  # the others were printed
        found = (COMMAND.match(line) for line in lines if not prompts or line.startswith("$ "))
        return [match[1] for match in found if match]


def blocks_of(page):
    """Return the blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text[: found.start("text")].count("\n"),
            found["language"],
            found["mark"] or "",
            re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
        )
        for found in FENCE.finditer(text)
    ]


def pages():
    """Return every page for users, and the README."""
    found = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    left_out = {DOCS / name for name in RECORDS}
    return [p for p in found if p not in left_out and p.parent.name not in ("adr", "project")]


def words_of(command):
    """Return the variables that a command line sets, its words, and where its output goes."""
    words = shlex.split(re.sub(r"\s+#.*$|\s{4,}.*$", "", command))
    variables = {}
    while words and re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    target = None
    if ">" in words:
        target = words[words.index(">") + 1]
        words = words[: words.index(">")]
    return variables, words, target


def elsewhere(command):
    """Say why the tests do not run a command, or return nothing."""
    for begin, reason in ELSEWHERE.items():
        if command == begin or command.startswith(begin if begin[-1] in "/=" else f"{begin} "):
            return reason
    return ""
