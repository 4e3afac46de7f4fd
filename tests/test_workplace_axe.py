"""No page of the workplace keeps anybody out: axe finds no serious barrier, in light and dark."""

import pytest

pytest.importorskip("streamlit", reason="the app extra is not installed")
places = pytest.importorskip("workplace_server", reason="tests/ is not on the path")
pytestmark = [*places.MARKS, pytest.mark.nightly]
PAGES = (
    "start", "worklist", "case", "blind", "sign", "report", "quality", "models", "admin", "help",
)  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tiny_onnx, tmp_path_factory):
    """The workplace on the demo's clinic."""
    from allkit.cli.models import open_model
    from allkit.clinic.demo import make_demo

    made = places.Workplace(tmp_path_factory.mktemp("workplace"))
    make_demo(made.store, tiny_onnx, open_model(tiny_onnx), None, who="anna")
    made.cases = cases(made)
    made.start()
    yield made
    made.stop()


def cases(workplace):
    """A case that is read, one that is blind, and one with a report."""
    from allkit.clinic.access import sign_in
    from allkit.clinic.search import Filter, find
    from allkit.clinic.view import look

    with workplace.opened() as store:
        anna = sign_in(store, "anna")
        views = [look(anna, row.id) for row in find(anna, Filter()).rows]
    views = [view for view in views if view.fields]
    open_ = [view for view in views if view.status in ("new", "reading")]
    return {
        "case": next(view.id for view in open_ if not view.blind),
        "sign": next(view.id for view in open_ if not view.blind),
        "blind": next((view.id for view in open_ if view.blind), open_[-1].id),
        "report": next(view.id for view in views if view.status in ("signed", "amended")),
    }


@pytest.fixture(scope="module", params=["light", "dark"])
def page(request, workplace):
    """A page in one of the themes."""
    with places.browser() as opened, places.new_page(opened, scheme=request.param) as page:
        yield page


@pytest.mark.parametrize("name", PAGES)
def test_no_page_has_a_serious_barrier(workplace, page, name):
    case = workplace.cases.get(name)
    path = name if case is None else f"{'report' if name == 'report' else 'case'}?case={case}"
    page.goto(f"{workplace.url}/{path}")
    places.still(page)
    page.get_by_text("Research use, not a diagnosis").first.wait_for()
    if name in ("case", "blind", "sign"):
        page.locator(".cell[aria-selected=true]").wait_for()
    if name == "sign":
        page.locator(".ends button", has_text="Sign").click()
        page.get_by_role("dialog").wait_for()
    page.wait_for_timeout(500)
    assert places.barriers(page) == []


def test_axe_would_say_what_keeps_people_out_within_the_components_too(workplace, page):
    page.goto(f"{workplace.url}/case?case={workplace.cases['case']}")
    page.locator(".cell[aria-selected=true]").wait_for()
    page.locator(".steps button").first.evaluate(
        "(one) => ['aria-label', 'title'].forEach((name) => one.removeAttribute(name)) ?? (one.textContent = '')"
    )
    assert any("button-name" in one for one in places.barriers(page))
