"""A hundred broken plugins: each is named with what is wrong, and no other is blamed."""

from __future__ import annotations

import sys

import pytest

from allkit.plugins.probe import probe
from attacks import broken_plugins

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="some of them need signals")


def test_broken_plugins_are_named_and_harm_nobody_in_short(tmp_path):
    for line in broken_plugins.run("short", tmp_path).values():
        line.require_none_failed()


@pytest.mark.nightly
def test_a_hundred_broken_plugins_are_named_and_harm_nobody(tmp_path):
    lines = broken_plugins.run("long", tmp_path)
    assert sum(counts.tried for counts in lines.values()) > 100
    for line in lines.values():
        line.require_none_failed()


FOR_ALL = {
    "import torch; torch.set_default_dtype(torch.float64)": "changes how torch computes everywhere",
    "import os; os.environ['ALLKIT_CACHE'] = '/x'": "changes ALLKIT_CACHE in the environment",
    "import os; os.environ['OMP_NUM_THREADS'] = '7'": "changes OMP_NUM_THREADS in the environment",
    "class Mine:\n  find_spec = print\nimport sys; sys.meta_path.insert(0, Mine)": "first (m3.Mine)",
    "import os; os.umask(0)": "who may read the files",
    "import sys; sys.setrecursionlimit(99_999)": "how deep calls may be",
    "import logging; logging.disable()": "turns off the log of others",
    "import threading, time; threading.Thread(target=time.sleep, args=(99,)).start()": (
        "starts a thread that keeps the program from ending"
    ),
}
FOR_NOBODY = [
    "import os; os.environ['MINE_CACHE'] = '/x'",
    "import sys; sys.meta_path.append(type('Mine', (), {'find_spec': print}))",
    "import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
    "import threading; threading.Thread(target=print).start()",
    "from concurrent.futures import ThreadPoolExecutor as P; pool = P(1); pool.submit(print)",
    "import logging; logging.getLogger('mine').addHandler(logging.NullHandler())",
]


@pytest.mark.filterwarnings("ignore:The plugin .* has been importing")  # it waits for torch
def test_an_import_that_changes_the_whole_program_is_named_and_no_other(tmp_path):
    codes = [*FOR_ALL, *FOR_NOBODY]
    head = "import allkit\napi_version = 2\n"
    for number, code in enumerate(codes):
        path = tmp_path / f"m{number}.py"
        path.write_text(head.replace("api", f"{code}\napi"))
    entries = [(f"m{number} 1.0", "m", f"m{number}") for number in range(len(codes))]
    found = [one["error"] for one in probe(entries, 30.0, [str(tmp_path), *sys.path])]
    for error, words in zip(found, FOR_ALL.values(), strict=False):
        assert words in (error or "nothing")
    assert found[len(FOR_ALL) :] == [None] * len(FOR_NOBODY)
