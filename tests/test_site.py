"""The site: it builds without a warning, no link is broken, and a folder of it can be searched offline."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("material", reason="pip install 'allkit[docs]'")
places = pytest.importorskip("workplace_server", reason="tests/ is not on the path")

ROOT = Path(__file__).parents[1]
# Shown on pages of the forge and of the package index, outside the site.
OUTSIDE = [ROOT / n for n in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
OUTSIDE += sorted(ROOT.glob("plugins/*/README.md"))
LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]*)(?:#([^)\s]+))?\)")
FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; a warning stops the build, as in `make check`."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        # Not --quiet: with it MkDocs counts no warnings, and --strict means nothing.
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    said = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("INFO"))
    assert done.returncode == 0, said
    return folder


class Page(HTMLParser):
    """What a page loads, where it links to, and which places it has."""

    def __init__(self, path):
        super().__init__()
        self.loads, self.links, self.ids = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids.update(filter(None, (given.get("id"), given.get("name"))))
        if tag == "a":
            self.links.append(given.get("href") or "")
        elif tag == "link":
            if given.get("rel") not in ("canonical", "prev", "next", "license"):
                self.loads.append(given.get("href") or "")
        elif given.get("src"):
            self.loads.append(given["src"])


@pytest.fixture(scope="module")
def pages(site):
    """Every page of the site by its path, 404.html left out: it is for servers only."""
    return {p: Page(p) for p in sorted(site.rglob("*.html")) if p.name != "404.html"}


@pytest.mark.slow
def test_no_link_of_the_site_is_broken(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link) or not link:
                continue
            name, _, place = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            there = pages.get(target)
            if not target.is_file() or (place and there and place not in there.ids):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 80
    assert sorted(set(broken)) == []


@pytest.mark.slow
def test_a_page_loads_nothing_from_elsewhere(site, pages):
    for path, page in pages.items():
        # What stands in the page itself is loaded from nowhere.
        for name in (name for name in page.loads if not name.startswith("data:")):
            assert not re.match(r"([a-z]+:)?//", name), f"{path.relative_to(site)}: {name}"
            assert (path.parent / name.split("?")[0]).is_file(), name


@pytest.mark.slow
@pytest.mark.skipif(places.CHROMIUM is None, reason="no chromium here: apt-get install chromium")
def test_the_site_is_searched_in_its_folder_without_a_request(site):
    with places.browser() as opened, places.new_page(opened) as page:
        watched = places.Watched(page)
        page.goto(site.joinpath("explanation", "limits.html").as_uri())
        box = page.get_by_role("textbox", name="Search")
        box.click()
        box.press_sequentially("conformal")
        found = page.locator(".md-search-result__link[href*='trust.html'][href*='h=conformal']")
        found.first.click()
        page.wait_for_url(re.compile(r"trust\.html"))
        page.locator("mark").first.wait_for()  # the word, found in the page
        assert watched.wrong == []
        assert [url for url in watched.asked if not url.startswith(site.as_uri())] == []
        assert len(watched.asked) > 5


@pytest.mark.slow
def test_the_files_of_the_root_are_in_the_site(site):
    for name, page, words in (
        ("CHANGELOG.md", "changelog", "Unreleased"),
        ("SECURITY.md", "security", "Report a weakness"),
        ("CONTRIBUTING.md", "contributing", "House rules"),
    ):
        assert words in (ROOT / name).read_text(encoding="utf-8")
        assert words in (site / "project" / f"{page}.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found(site):
    """What the search reads: each place of a page with its text and its rank."""
    text = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    return json.loads(text[text.index("{") : text.rindex("}") + 1])["docs"]


@pytest.mark.slow
def test_the_search_ranks_pages_for_use_before_records(found):
    ranks = {entry["location"].partition("#")[0]: entry.get("boost", 1) for entry in found}
    records = [page for page in ranks if page.startswith("adr/")]
    assert len(records) > 40
    for page in [*records, "figures-former.html", "project/changelog.html"]:
        assert ranks[page] < 1, page
    assert ranks["reference/glossary.html"] > ranks["explanation/trust.html"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("AUROC", "reference/glossary.html"),
        ("AUC", "reference/glossary.html"),
        ("McNemar", "reference/glossary.html"),
        ("FPR", "reference/glossary.html"),
        ("true positive rate", "reference/glossary.html"),
        ("twine upload", "tutorials/plugin.html"),
        ("trusted publishing", "tutorials/plugin.html"),
        ("publish", "project/release.html"),
        ("upload", "project/release.html"),
    ],
)
def test_the_search_knows_the_usual_words(found, word, page):
    assert any(word in entry["text"] for entry in found if entry["location"].startswith(page))


def slug(heading):
    """The place of a heading as a forge names it."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading).strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text))


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_link_of_a_file_outside_the_site_is_broken(path):
    broken = []
    for name, place in LINK.findall(FENCED.sub("", path.read_text(encoding="utf-8"))):
        target = (path.parent / name).resolve() if name else path
        if not target.exists():
            broken.append(name)
        elif place and target.suffix == ".md":
            text = FENCED.sub("", target.read_text(encoding="utf-8"))
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            if place not in map(slug, headings):
                broken.append(f"{name}#{place}")
    assert sorted(set(broken)) == []
