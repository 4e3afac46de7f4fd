"""The rules of the house that no other tool checks, read from the code itself."""

import ast
import graphlib
import io
import re
import tokenize
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "allkit"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
FEW_LINES = 3
"""A function of so many lines may stand twice: to share it would take as many."""


def modules(root=SOURCE):
    """Every module of a folder, by its path, as a tree."""
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).as_posix(), ast.parse(path.read_text("utf-8"))


# ── nothing behind a class's back ─────────────────────────────────────────────────────────────


def pokes(tree):
    """The lines that write into the `__dict__` of an object."""
    for node in ast.walk(tree):
        target = node.value if isinstance(node, ast.Subscript) else None
        written = target is not None and not isinstance(node.ctx, ast.Load)
        if isinstance(node, ast.Attribute) and node.attr in ("update", "setdefault", "pop"):
            target, written = node.value, True
        if written and isinstance(target, ast.Attribute) and target.attr == "__dict__":
            yield node.lineno


def test_nobody_writes_into_the_inside_of_an_object():
    found = [f"{name}:{line}" for name, tree in modules() for line in pokes(tree)]
    assert not found, "say it by an argument or an attribute of the class"


def test_the_app_stands_on_what_is_public():
    found = set()
    for name, tree in modules(ROOT / "streamlit_app"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {(name, part.name) for part in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((name, node.module))
    public = ("allkit.clinic.", "allkit.errors", "allkit.records")
    assert [
        f for f in sorted(found) if f[1].startswith("allkit.") and not f[1].startswith(public)
    ] == []


# ── one of each ───────────────────────────────────────────────────────────────────────────────


def is_type(node):
    """Whether an expression is a type: names, attributes, `X[...]` and `X | Y` of these only."""
    allowed = (
        ast.Name, ast.Attribute, ast.Subscript, ast.Tuple, ast.List, ast.BinOp, ast.BitOr,
        ast.Constant, ast.Load,
    )  # fmt: skip
    kinds = [type(part) for part in ast.walk(node)]
    return isinstance(node, (ast.Subscript, ast.BinOp)) and all(k in allowed for k in kinds)


def aliases(tree):
    """The types that a module gives a name to: as they are written, with their names."""
    outer = [n for n in tree.body if not isinstance(n, ast.If)]
    outer += [n for block in tree.body if isinstance(block, ast.If) for n in block.body]
    for node in outer:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            # A constant is written in capitals, a type is not.
            if is_type(node.value) and not name.isupper():
                yield ast.unparse(node.value), name


class Anonymous(ast.NodeTransformer):
    """Numbers what a function names itself, and takes all constants for one: what it does is left."""

    def __init__(self, function):
        stored = [n.arg for n in ast.walk(function) if isinstance(n, ast.arg)]
        stored += [
            n.id for n in ast.walk(function)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        ]  # fmt: skip
        self.numbers = {name: f"v{i}" for i, name in enumerate(dict.fromkeys(stored))}

    def visit_Name(self, node):
        name = "C" if node.id.isupper() else self.numbers.get(node.id, node.id)
        return ast.copy_location(ast.Name(name, ast.Load()), node)

    def visit_Attribute(self, node):
        self.generic_visit(node)
        return ast.copy_location(ast.Name("C", ast.Load()), node) if node.attr.isupper() else node

    def visit_AnnAssign(self, node):
        """A type beside a variable changes nothing of what is done."""
        return self.visit(
            ast.copy_location(ast.Assign([node.target], node.value or ast.Constant(None)), node)
        )


def bodies(tree):
    """What each function does, in words that do not depend on the names in it, with its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            name = node.name
            lines = [n for n in node.body if not isinstance(getattr(n, "value", 0), ast.Constant)]
            anonymous = Anonymous(node)
            text = "\n".join(
                ast.unparse(ast.fix_missing_locations(anonymous.visit(n))) for n in lines
            )
            if len(text.splitlines()) > FEW_LINES:
                yield text, name


def twins(what, root=SOURCE):
    """What stands in two modules, with where."""
    where = defaultdict(dict)
    for module, tree in modules(root):
        for text, name in what(tree):
            where[text].setdefault(module, name)
    return [
        sorted(f"{module}: {name}" for module, name in found.items())
        for found in where.values()
        if len(found) > 1
    ]


def test_a_type_has_its_name_in_one_module():
    assert not twins(aliases), "keep it in allkit.types, or where it belongs, and import it"


def test_a_type_that_has_a_name_is_not_spelt_out():
    callable_types = {
        text for text, _ in aliases(ast.parse((SOURCE / "types.py").read_text("utf-8")))
        if text.startswith("Callable")
    }  # fmt: skip
    assert callable_types
    found = [
        f"{module}:{node.lineno}"
        for module, tree in modules()
        for node in ast.walk(tree)
        if module != "types.py" and isinstance(node, ast.Subscript)
        and ast.unparse(node) in callable_types
    ]  # fmt: skip
    assert not found, "import its name from allkit.types"


def test_a_function_stands_in_one_module():
    assert not twins(bodies), "move one of them down a layer, and import it"


COPIES = (
    """
def quiet():
    # One advises.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
""",
    """
def no_logging() -> Iterator[None]:
    "Silent."
    was: int = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(was)
""",
)


def test_a_function_that_was_copied_and_renamed_is_found(tmp_path):
    for name, text in zip(("one.py", "two.py"), COPIES, strict=True):
        (tmp_path / name).write_text(text)
    assert twins(bodies, tmp_path) == [["one.py: quiet", "two.py: no_logging"]]
    (tmp_path / "two.py").write_text(COPIES[1].replace("finally", "except KeyError"))
    assert not twins(bodies, tmp_path)


def test_probabilities_are_made_in_one_place():
    by_hand = re.compile(r"\.max\(axis=1, keepdims=True\)|np\.log\(np\.exp\(")
    found = [
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if by_hand.search(path.read_text("utf-8"))
    ]
    assert found == ["trust/softmax.py"]


# ── what is switched off says why ─────────────────────────────────────────────────────────────

SWITCH = re.compile(
    r"#\s*(?:noqa(?::[ \w,]+?)?|type:\s*ignore(?:\[[^\]]*\])?)(?P<why>\s*$|\s+\S.*)"
)


def unexplained(text):
    """The lines of comments that switch a check off without a word beside or above them."""
    comments, lines = {}, text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string
    for line, comment in comments.items():
        found = SWITCH.search(comment)
        above = lines[line - 2].strip() if line > 1 else ""
        if found and not re.search(r"[#-] \w+", found["why"]) and not above.startswith("# "):
            yield line


@pytest.mark.parametrize("folder", ["src", "streamlit_app", "plugins"])
def test_what_switches_a_check_off_says_why(folder):
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in unexplained(path.read_text("utf-8"))
    ]
    assert not found, "give the reason behind it, or in a comment on the line above"


@pytest.mark.parametrize(
    ("line", "explained"),
    [
        ("x = 1  # noqa: E501", False),
        ("x = 1  # type: ignore[misc]", False),
        ("x = 1  # type: ignore", False),
        ("x = 1  # noqa: E501 - an address does not break", True),
        ("x = 1  # type: ignore[misc]  # the library has no types", True),
        ("# An address does not break.\nx = 1  # noqa: E501", True),
        ("x = '# noqa'", True),
    ],
)
def test_a_reason_is_told_from_none(line, explained):
    assert (not list(unexplained(f"{line}\n"))) == explained


# ── layers and records ────────────────────────────────────────────────────────────────────────


BY_NAME = {contract["name"]: contract for contract in CONTRACTS["contracts"]}
LAYERS = [re.split(r" [|:] ", layer) for layer in BY_NAME["Imports go down"]["layers"]]


def test_everything_from_the_reports_down_is_kept_free_of_torch():
    first = next(i for i, layer in enumerate(LAYERS) if "report" in layer)
    below = {f"allkit.{name}" for layer in LAYERS[first:] for name in layer}
    contract = BY_NAME["What answers needs no torch"]
    assert "torch" in contract["forbidden_modules"]
    assert set(contract["source_modules"]) == below
    assert not contract.get("ignore_imports")
    assert not contract.get("allow_indirect_imports")


def test_no_package_is_forgotten_where_timm_is_kept_out():
    contract = BY_NAME["timm and albumentations stay behind the plugin records"]
    everywhere = {f"allkit.{name}" for layer in LAYERS for name in layer}
    assert everywhere - set(contract["source_modules"]) == {"allkit.builtin", "allkit.__main__"}


def imported(tree, known):
    """The modules of allkit that one imports, typing included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "allkit":
            for part in node.names:
                whole = f"{node.module}.{part.name}"
                yield whole if whole in known else node.module
        elif isinstance(node, ast.Import):
            yield from (part.name for part in node.names if part.name.startswith("allkit."))


def graph():
    trees = {
        f"allkit.{name[:-3].replace('/', '.')}".removesuffix(".__init__"): t
        for name, t in modules()
    }
    del trees["allkit"]  # it only says where public names live
    return {name: set(imported(tree, trees)) - {"allkit"} for name, tree in trees.items()}


def test_imports_for_types_go_down_too_and_in_no_circle():
    found = graph()
    tuple(graphlib.TopologicalSorter(found).static_order())  # raises where there is a circle
    height = {name: -i for i, layer in enumerate(LAYERS) for name in layer}
    of = {name: name.split(".")[1] for name in {*found, *(b for at in found.values() for b in at)}}
    up = [
        f"{a} imports {b}" for a, several in found.items() for b in several
        if of[a] not in (of[b], "__main__") and height[of[a]] <= height[of[b]]
    ]  # fmt: skip
    assert sorted(up) == []


MAPPED = (
    "adaptation", "clinic", "data", "evaluation", "exporting", "features", "images", "model", "network", "quality",
    "report", "runtime", "training", "trust",
)  # fmt: skip
"""The packages whose docstring says what is where."""


@pytest.mark.parametrize("package", MAPPED)
def test_a_package_says_what_is_in_each_of_its_files(package):
    folder = SOURCE / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
    told = set(re.findall(r"^(\w+) {2,}\S", text, re.M))
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert told == files | packages


def test_the_top_of_the_house_stays_small():
    entries = {name.split("/")[0] for name, _ in modules()}
    assert len(entries) <= 32
    assert len(LAYERS) <= 14


def test_the_table_of_layers_follows_the_order_that_is_enforced():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?`) \|", text, re.M)
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    height = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    heights = [height[name] for name in told]
    assert set(told) == set(height) - {"__main__"}
    assert heights == sorted(heights)


def test_a_number_of_a_record_is_used_or_explained():
    folder = ROOT / "docs" / "adr"
    index = (folder / "index.md").read_text("utf-8")
    used = {int(path.name[:4]) for path in folder.glob("[0-9]*.md")}
    explained = {int(n) for n in re.findall(r"^Number (\d{4}) was not used", index, re.M)}
    missing = set(range(1, max(used) + 1)) - used - explained
    assert not missing
    assert not used & explained
    assert all(f"]({path.name})" in index for path in folder.glob("[0-9]*.md"))


# ── files and calls that can be read ──────────────────────────────────────────────────────────

FOREIGN = ("cv2", "np", "op", "sa", "sqlite3", "torch")
"""Libraries whose functions take their arguments by position."""


def crowded(tree):
    """The lines of calls that pass more than four arguments by position."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) > 4:
            root = node.func
            while isinstance(root, ast.Attribute):
                root = root.value
            if not (isinstance(root, ast.Name) and root.id in FOREIGN):
                yield node.lineno


def test_no_call_passes_more_than_four_arguments_by_position():
    found = [f"{name}:{line}" for name, tree in modules() for line in crowded(tree)]
    assert not found, "name the arguments, or make a record of them"


def test_a_crowded_call_is_told_from_a_readable_one():
    assert list(crowded(ast.parse("run(a, b, c, d, e)"))) == [1]
    assert list(crowded(ast.parse("run(a, b, c, d, e=e)\ncv2.calc(a, b, c, d, e)"))) == []


def test_the_formatter_is_switched_off_for_a_few_tables_only():
    texts = [path.read_text("utf-8") for path in SOURCE.rglob("*.py")]
    assert sum(text.count("# fmt: skip") for text in texts) <= 20


def test_no_file_is_too_long_to_be_read_in_one_sitting():
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in [*SOURCE.rglob("*.py"), *(ROOT / "streamlit_app").rglob("*.py")]
        if (lines := len(path.read_text("utf-8").splitlines())) > 450
    }
    assert long == {}
