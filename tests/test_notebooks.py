"""The notebooks are kept without outputs, and run from the first cell to the last."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TINY = {'backbone="efficientnet-lite0"': 'backbone="timm:test_resnet", weights="none", epochs=3'}
"""In the small version a tiny network takes the place of the one with real weights."""
SMALL = TINY | {"48, groups=24": "24, groups=12"}


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The folder of the notebooks' scripts, which can be imported while these tests run."""
    sys.path.insert(0, str(ROOT / "notebooks"))
    yield
    sys.path.remove(str(ROOT / "notebooks"))
    for name in ("run", "pages"):
        sys.modules.pop(name, None)


def shown_in(notebook):
    """Everything that the cells of a notebook that was run show, as one text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    texts = [output.get("text", "") for output in outputs]
    return "\n".join(texts + [str(output.get("data", {})) for output in outputs])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_as_source(path):
    import nbformat

    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert "".join(notebook["cells"][0]["source"]).startswith("# ")
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            lines = [line for line in cell["source"] if not line.startswith("%")]
            compile("".join(lines), path.name, "exec")
    assert len(text) < 20_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of what runs notebooks
def test_the_first_hour_runs_in_small():
    from run import executed

    shown = shown_in(executed(ROOT / "notebooks/first-hour.ipynb", SMALL))
    assert "accuracy" in shown
    assert "image/png" in shown
    assert "text/html" in shown


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")  # of what runs notebooks
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    pytest.importorskip("allkit_efficientnet_lite")
    from run import executed

    assert shown_in(executed(path))


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")  # of what runs notebooks
def test_a_cell_that_fails_ends_the_run(tmp_path):
    import nbformat
    from nbclient.exceptions import CellExecutionError
    from run import executed

    cells = [
        nbformat.v4.new_code_cell("1 + 1"),
        nbformat.v4.new_code_cell("raise SystemError('no')"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "fails.ipynb")
    with pytest.raises(CellExecutionError, match="SystemError"):
        executed(tmp_path / "fails.ipynb")


def test_the_links_of_the_notebooks_lead_somewhere():
    for path in NOTEBOOKS:
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), (path.name, target)


# ── pages ──────────────────────────────────────────────────────────────────────────────────────


def test_a_page_holds_what_the_cells_showed():
    import nbformat
    from pages import page_of

    v4 = nbformat.v4
    picture = v4.new_output("display_data", data={"image/png": "iVBORw0KGgo=", "text/plain": "<F>"})
    outputs = [
        v4.new_output("stream", name="stdout", text="10 %\r100 %\n\x1b[1mdone\x1b[0m\n"),
        v4.new_output("execute_result", data={"text/html": "<b>bold</b>\n\n<i>x</i>"}),
        v4.new_output("execute_result", data={"text/plain": "42"}),
        picture,
    ]
    notebook = v4.new_notebook(
        cells=[
            v4.new_markdown_cell("# Title\n\n[On](next.ipynb), [why](../docs/why.md)."),
            v4.new_code_cell("f()", outputs=outputs),
        ]
    )
    text, pictures = page_of(notebook, "page")
    assert text == (
        "# Title\n\n[On](next.md), [why](../why.md).\n\n```python\nf()\n```\n\n```text\n100 %\ndone\n```\n\n"
        "<div class='output'>\n<b>bold</b>\n<i>x</i>\n</div>\n\n```text\n42\n```\n\n"
        "![What the cell above shows](page-1.png)\n"
    )
    assert pictures == {"page-1.png": b"\x89PNG\r\n\x1a\n"}


def test_a_page_of_a_notebook_that_was_not_run_says_so():
    from pages import page_of

    notebook = json.loads((ROOT / "notebooks/first-hour.ipynb").read_text(encoding="utf-8"))
    text, pictures = page_of(notebook, "first-hour")
    assert text.startswith("# The first hour\n")
    assert "`make notebooks` runs them" in text
    assert pictures == {}


def test_the_site_has_a_page_for_each_notebook(tmp_path):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Start\n")
    settings = {
        "site_name": "a site",
        "docs_dir": str(tmp_path / "docs"),
        "site_dir": str(tmp_path / "site"),
        "theme": {"name": None, "custom_dir": str(tmp_path / "theme")},
        "hooks": [str(ROOT / "docs/notebooks.py")],
        "plugins": [],
        "use_directory_urls": False,
    }
    (tmp_path / "theme").mkdir()
    (tmp_path / "theme/main.html").write_text("{{ page.content }}")
    (tmp_path / "mkdocs.yml").write_text(json.dumps(settings))
    build(load_config(str(tmp_path / "mkdocs.yml")))
    for path in NOTEBOOKS:
        page = (tmp_path / f"site/notebooks/{path.stem}.html").read_text(encoding="utf-8")
        first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"][0]
        assert f">{first.strip().removeprefix('# ')}</h1>" in page
