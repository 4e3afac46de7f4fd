"""Signing in by OIDC, in a browser: who comes in, who does not, and what a signature asks for."""

import importlib.util
import urllib.error
import urllib.request

import pytest

pytest.importorskip("streamlit", reason="the app extra is not installed")
places = pytest.importorskip("workplace_server", reason="tests/ is not on the path")
# Not imported here: it warns of its own dependencies.
FOUND = importlib.util.find_spec("oidc_provider_mock")
pytestmark = [
    *places.MARKS,
    pytest.mark.skipif(FOUND is None, reason="pip install oidc-provider-mock"),
]
BY_GROUPS = '[allkit]\nclaim = "email"\nroles_claim = "groups"\nroles = { smears = "reader" }'


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    """The provider of logins, which knows four people."""
    started = places.Provider(tmp_path_factory.mktemp("provider")).start()
    try:
        for name in ("anna", "ben", "cleo", "mallory"):
            started.knows(name, email=f"{name}@clinic.example")
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def opened():
    """A browser."""
    with places.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def workplace(provider, tmp_path_factory):
    """A workplace with a login, and a case that can be signed."""
    made = places.Workplace(tmp_path_factory.mktemp("workplace"))
    made.case = places.filled(made.store)
    provider.trusted(made)
    made.start()
    yield made
    made.stop()
    assert "Traceback" not in made.log.read_text()


def status(url, **headers):
    """What the server answers to a request."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=10
        ) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def settings(workplace, **values):
    """Change settings of the clinic, as its admin does."""
    from allkit.clinic.access import change_settings, sign_in

    with workplace.opened() as store:
        change_settings(sign_in(store, "anna"), values)


def test_only_who_the_clinic_knows_comes_in_and_signing_out_ends_it(workplace, provider, opened):
    screen = f"{workplace.url}/clinic/cases/{workplace.case}"
    assert status(screen) == 401
    assert status(screen, **{"X-Allkit-Session": "a guess"}) == 401
    with places.new_page(opened) as page:
        asked = []
        page.on("request", lambda one: asked.append((one.frame.url, one.url)))
        page.goto(workplace.url)
        log_in = places.log_in
        log_in(page, "mallory")
        page.get_by_text("knows nobody named").wait_for()
        assert page.get_by_text("An admin adds people").is_visible(), "it says what to do"
        assert page.get_by_text("Worklist").count() == 0
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("button", name="End session").click()
        log_in(page, "ben")
        page.get_by_role("heading", name="Worklist").wait_for()
        token = []
        page.on("request", lambda one: token.append(one.headers.get("x-allkit-session")))
        page.goto(f"{workplace.url}/case?case={workplace.case}")
        page.locator(".cell").first.wait_for()
        sent = next(one for one in token if one)
        assert status(screen, **{"X-Allkit-Session": sent}) == 200
        # What ben gives against the model stands with his name and his reason.
        page.locator(".cell").first.click()
        places.press(page, "3")
        page.locator(".saving[data-state=saved]").wait_for()
        given = places.held(workplace, workplace.case)[0].first
        assert (given.label, given.person.display) == ("Pre", "Ben")
        assert given.why == "The nucleus and chromatin look different"
        places.press(page, "u")
        page.locator(".saving[data-state=saved]").wait_for()
        page.get_by_role("button", name="Ben", exact=True).click()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("button", name="End session").click()
        page.get_by_role("button", name="Sign in").wait_for()
        assert status(screen, **{"X-Allkit-Session": sent}) == 401, "its pages have ended too"
        # What the provider's pages ask for is theirs.
        local = (workplace.url, workplace.url.replace("http", "ws"), provider.url, "data:", "blob:")
        ours = [to for of, to in asked if of.startswith(workplace.url)]
        assert [one for one in ours if not one.startswith(local)] == []


@pytest.mark.nightly
def test_who_was_idle_for_too_long_sees_nothing_until_a_new_login(workplace, provider, opened):
    with places.new_page(opened) as page:
        page.goto(workplace.url)
        places.log_in(page, "ben")
        page.get_by_role("heading", name="Worklist").wait_for()
        settings(workplace, idle_minutes=0.05)
        try:
            page.get_by_text("You are signed out").wait_for()
            places.still(page)
            assert page.get_by_text("P-").count() == 0, "no patient is seen"
            page.reload()
            page.get_by_text("You are signed out").wait_for()
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/oauth2/authorize**")
        finally:
            settings(workplace, idle_minutes=30)
        assert "prompt=login" in page.url, "the provider is to ask for the password"
        places.at_provider(page, "ben")
        page.get_by_role("heading", name="Worklist").wait_for()


@pytest.mark.nightly
def test_a_signature_asks_the_provider_anew_and_comes_back_to_the_case(workplace, provider, opened):
    with places.new_page(opened) as page:
        page.goto(workplace.url)
        places.log_in(page, "ben")
        page.get_by_role("heading", name="Worklist").wait_for()
        settings(workplace, confirm_signature_minutes=0.01)
        page.goto(f"{workplace.url}/case?case={workplace.case}")
        drawer = ready(page)
        confirm = drawer.get_by_role("button", name="Confirm who I am")
        confirm.wait_for()
        assert drawer.get_by_role("button", name="Sign", exact=True).count() == 0
        confirm.click()
        page.wait_for_url("**/oauth2/authorize**")
        settings(workplace, confirm_signature_minutes=5)
        assert "prompt=login" in page.url
        places.at_provider(page, "ben")
        page.wait_for_url(f"**/case?case={workplace.case}")
        drawer = ready(page)
        drawer.get_by_role("button", name="Sign", exact=True).click()
        page.wait_for_url("**/report**")
        page.get_by_text("Signed by Ben").wait_for()


def ready(page):
    """The drawer of a signature, in which all is done but the signature."""
    page.locator(".cell").first.wait_for()
    page.locator(".ends button", has_text="Sign").click()
    drawer = page.get_by_role("dialog")
    drawer.get_by_role("radio", name="Benign").check(force=True)
    limits = drawer.get_by_text("I have read the limits of the model.")
    limits.click()
    drawer.get_by_text("Nothing stands against a signature.").wait_for()
    return drawer


@pytest.mark.nightly
def test_roles_come_from_the_groups_that_the_provider_names(provider, opened, tmp_path):
    made = places.Workplace(tmp_path)
    case = places.filled(made.store)
    provider.trusted(made, BY_GROUPS)
    provider.knows("dora", email="dora@clinic.example", groups=["smears", "choir"], name="Dora D.")
    provider.knows("emil", email="emil@clinic.example", groups=["choir"])
    made.start()
    try:
        with places.new_page(opened) as page:
            page.goto(made.url)
            places.log_in(page, "dora")
            page.get_by_role("heading", name="Worklist").wait_for()
            page.goto(f"{made.url}/case?case={case}")
            page.locator(".cell").first.wait_for()
            page.locator(".ends button", has_text="Sign").click()
            page.get_by_text("You may read, but not sign.").wait_for()
        with places.new_page(opened) as page:
            page.goto(made.url)
            places.log_in(page, "emil")
            page.get_by_text("has no role here. Ask an admin").wait_for()
            assert page.get_by_role("heading", name="Worklist").count() == 0
    finally:
        made.stop()


@pytest.mark.nightly
def test_two_people_read_one_case_and_see_nothing_of_each_other(provider, opened, tmp_path):
    from allkit.clinic import reading
    from allkit.clinic.access import sign_in

    made = places.Workplace(tmp_path)
    case = places.filled(made.store)
    provider.trusted(made)
    with made.opened() as store:
        reading.want_second(sign_in(store, "anna"), case, True)
    made.start()
    try:
        with places.new_page(opened) as bens, places.new_page(opened) as cleos:
            heard = []
            cleos.on("response", lambda one: "/clinic/cases/" in one.url and heard.append(one))
            for page, name in ((bens, "ben"), (cleos, "cleo")):
                page.goto(made.url)
                places.log_in(page, name)
                page.get_by_role("heading", name="Worklist").wait_for()
                page.goto(f"{made.url}/case?case={case}")
                page.locator(".cell[aria-selected=true]").wait_for()
            assert cleos.get_by_text("Ben", exact=True).count() == 0
            bens.keyboard.press("Enter")
            for _ in range(3):
                bens.keyboard.press("Enter")
            places.until(lambda: bens.locator(".saving[data-state=saved]").count())
            bens.locator(".ends button", has_text="Finish reading").click()
            bens.get_by_text("second reader").first.wait_for()
            # The second reader sees neither the first reader's classes nor the model's.
            cleos.reload()
            cleos.locator(".cell[aria-selected=true]").wait_for()
            screen = heard[-1].json()
            assert screen["round"] == 2
            assert {field["state"] for field in screen["fields"]} == {"hidden"}
            assert all(field["other"] is None for field in screen["fields"])
            assert cleos.locator(".cell .mine:visible").count() == 0
            cleos.keyboard.press("3")
            places.until(lambda: cleos.locator(".saving[data-state=saved]").count())
            places.until(lambda: cleos.locator(".cell .mine:visible").count() == 1)
    finally:
        made.stop()
