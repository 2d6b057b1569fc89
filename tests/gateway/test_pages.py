"""Refusals as pages: their text, what they can load, and where they redirect."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from urllib.parse import parse_qs, quote, urlsplit

import bcrypt
import pytest
from django.db import connection

from audit.models import Entry
from authn.proxy_headers import TrustPolicy, filter_headers, parse_networks
from core.redirects import safe_next_path
from gateway import verify
from gateway.forwarded import ENDPOINTS, AuthRequest
from gateway.headers import IDENTITY
from rbac import services as rbac
from rbac.models import Role, Route
from rbac.packs import RouteSpec
from tests.evil_redirects import EVIL_REDIRECTS
from tests.factories import PASSWORD, UserFactory
from tests.verify_client import basic, bearer, cookie, identity, proxied

pytestmark = pytest.mark.django_db

CHROME = [(b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8")]
SITE = "https://api.example.com"  # the host that tests.verify_client uses


@pytest.fixture(autouse=True)
def site(settings, read_write, system):
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    settings.PUBLIC_URL = SITE
    rbac.create_route(actor=system, spec=RouteSpec("/admin/**", ("*",), "upstream:admin"), position=1)


@pytest.fixture
def redirecting(settings):
    settings.AUTH_REDIRECT = True


def open_page(
    path="/things", lines=(), *, method="GET", host="api.example.com", proto="https", endpoint=b"/authz/verify", **headers
):
    """Return the answer to a browser that opens a page."""
    proxy_info = proxied(method, path, host=host, **headers)
    proxy_info = proxy_info._replace(forwarded={**proxy_info.forwarded, "proto": proto})
    return verify.decide(AuthRequest([*CHROME, *lines], proxy_info, "GET", "", endpoint), ENDPOINTS[endpoint])


def header(answer, name):
    values = [value.decode() for key, value in answer.headers if key == name.encode()]
    assert len(values) <= 1
    return values[0] if values else None


class Page(HTMLParser):
    """The text of a page, its addresses, its tags and its style sheet."""

    def __init__(self, answer):
        super().__init__()
        self.words, self.addresses, self.tags, self.style = [], [], [], ""
        self._inside = ""
        assert header(answer, "content-type") == "text/html; charset=utf-8"
        self.feed(answer.body.decode("utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = tag
        self.addresses += [value for name, value in attrs if name in {"href", "src", "action", "srcset"}]
        assert not [name for name, _ in attrs if name == "style" or name.startswith("on")]

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "style":
            self.style += data
        else:
            self.words.append(data)


def test_the_page_of_a_denial_names_request_caller_permission_and_next_step(vera):
    answer = open_page("/admin/users?secret=1", subject="vera@example.com")
    assert answer.status == 403
    page = Page(answer)
    decision = header(answer, "x-skyauth-decision")
    for words in (
        "This requires upstream:admin, which the role does not have.",
        "GET api.example.com/admin/users",
        "vera@example.com, with the role viewer (authenticated by the single sign-on in front of this address)",
        "Required permission upstream:admin",
        "Roles with this permission admin",
        "#1 * /admin/** -> upstream:admin",
        f"Decision ID {decision}",
        "Ask an administrator for a role that has this permission, and give them the decision ID",
        "sign out at the single sign-on",
    ):
        assert words in page.text, words
    assert "secret" not in page.text
    assert Entry.objects.get(reference=decision).target == "GET api.example.com/admin/users"
    assert page.addresses == []


def test_a_caller_with_a_session_can_sign_in_as_another_user(client, vera):
    client.login(username="vera@example.com", password=PASSWORD)
    page = Page(open_page("/admin/", cookie(client.session.session_key)))
    assert "authenticated by your session on SkyAuth" in page.text
    assert page.addresses == ["/sign-in"]
    elsewhere = Page(open_page("/admin/", cookie(client.session.session_key), host="other.example.com"))
    assert elsewhere.addresses == [], "on that host there is no session of SkyAuth"


def test_the_page_names_each_authentication_method(bob, pipeline_token, settings):
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}"
    page = Page(open_page("/admin/", basic("bob@example.com", PASSWORD)))
    assert "bob@example.com, with the role user (authenticated by the user name and password that your browser sent)" in page.text
    assert "close your browser" in page.text
    page = Page(open_page("/admin/", bearer(pipeline_token)))
    assert "the service account pipeline, with the role user (authenticated by a service account's token)" in page.text
    Route.objects.all().delete()
    page = Page(open_page("/admin/", basic("team", "secret")))
    assert "a user of the shared password of team (authenticated by a shared password)" in page.text
    assert "No route allows this method and path." in page.text
    assert "ask an administrator to open this for you" in page.text.lower()


def test_the_page_explains_an_ambiguous_address():
    page = Page(open_page("/a%2fb"))
    assert "Signing in does not help" in page.text
    assert "Check the address" in page.text
    assert "permission" not in page.text


def test_the_page_for_an_anonymous_caller_links_to_sign_in_and_reveals_no_route():
    answer = open_page("/admin/users?a=b%20c")
    assert answer.status == 401
    page = Page(answer)
    assert page.addresses == ["/sign-in?next=%2Fadmin%2Fusers%3Fa%3Db%2520c"]
    assert "api.example.com/admin/users" in page.text
    assert not re.search("upstream:|role|route", page.text)
    assert header(answer, "x-skyauth-decision") is None
    assert [key for key, _ in answer.headers].count(b"www-authenticate") == 2


def test_the_page_on_another_host_has_no_link_to_sign_in():
    page = Page(open_page(host="other.example.com"))
    assert page.addresses == []
    assert "single sign-on" in page.text


@pytest.mark.parametrize("lines", [bearer("sky_nonsense"), basic("bob@example.com", "wrong"), basic("nobody", "wrong")])
def test_promise_16_a_bad_credential_gets_the_same_page_as_none(bob, lines):
    assert open_page(lines=lines) == open_page()


EVIL = "<script>x</script>\"'&{{1}}"


def test_values_on_a_page_are_escaped(system):
    role = Role.objects.create(name="x", permissions=["upstream:read"])
    user = UserFactory(username="eve@example.com", role=role)
    Role.objects.filter(pk=role.pk).update(name=EVIL)
    Route.objects.update(path="/**", permission="upstream:admin")
    Route.objects.filter(position=1).update(path="/<b>&'", methods=["GET"])  # no interface saves such a path
    for path in ("/<b>", f"/{EVIL}", "/%3Cb%3E&'"):
        answer = open_page(path, subject=user.username)
        assert answer.status == 403
        page = Page(answer)
        assert "script" not in page.tags
        assert "b" not in page.tags
        assert EVIL in page.text, "the name of the role is shown as text"


def test_a_page_loads_nothing_and_its_policy_allows_only_its_own_style(vera):
    for answer in (open_page("/admin/", subject="vera@example.com"), open_page()):
        page = Page(answer)
        digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
        assert header(answer, "content-security-policy") == (
            f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )
        assert not {"script", "img", "link", "iframe", "form", "object", "base"} & set(page.tags)
        assert "url(" not in page.style
        assert "@import" not in page.style
        assert header(answer, "x-content-type-options") == "nosniff"
        assert header(answer, "cache-control") == "no-store"
        assert len(identity(answer)) == len(IDENTITY)


def luminance(colour):
    """Return the relative luminance of #rrggbb (WCAG 2.2)."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_both_colour_schemes_have_enough_contrast(vera):
    style = Page(open_page()).style
    schemes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(schemes) == 2
    for colours in schemes:
        for front, back, least in (
            ("text", "sheet", 4.5), ("text", "back", 4.5), ("quiet", "sheet", 4.5), ("accent", "sheet", 4.5),
            ("alarm", "sheet", 4.5), ("on-accent", "accent", 4.5), ("field", "sheet", 3.0),
        ):  # fmt: skip
            darker, lighter = sorted(luminance(colours[name]) for name in (front, back))
            assert (lighter + 0.05) / (darker + 0.05) >= least, f"WCAG 2.2 AA: {front} on {back}"


@pytest.mark.parametrize("table", ["rbac_route", "rbac_role"])
def test_promise_43_a_page_that_cannot_be_rendered_is_503(vera, table):
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_gone")
    assert open_page("/admin/", subject="vera@example.com").status == 503


def test_a_program_gets_json(vera):
    answer = verify.decide(AuthRequest([], proxied("GET", "/admin/", subject="vera@example.com")))
    assert header(answer, "content-type") == "application/problem+json"


# redirects to the sign-in page


def test_in_redirect_mode_a_browser_is_redirected_to_sign_in_with_a_return_url(redirecting):
    answer = open_page("/things/7?a=b&c=d%20e%26f")
    assert answer.status == 302
    location = header(answer, "location")
    assert location == f"{SITE}/sign-in?next=%2Fthings%2F7%3Fa%3Db%26c%3Dd%2520e%2526f"
    assert parse_qs(urlsplit(location).query) == {"next": ["/things/7?a=b&c=d%20e%26f"]}
    assert set(identity(answer).values()) == {""}
    assert header(answer, "cache-control") == "no-store"
    assert Entry.objects.get(event="request.denied").actor == "anonymous"


def test_an_expired_session_is_redirected_to_sign_in_too(redirecting):
    assert open_page(lines=cookie("a" * 32)).status == 302


def test_without_redirect_mode_there_is_no_redirect():
    assert open_page().status == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "other.example.com"},
        {"host": "api.example.com:8443"},
        {"host": "api.example.com:80"},
        {"host": "evil.example"},
        {"host": "api.example.com.evil.example"},
        {"proto": "http"},
        {"proto": ""},
        {"method": "HEAD"},
        {"method": "POST"},
        {"endpoint": b"/authz/nginx"},
        {"lines": bearer("sky_nonsense")},
        {"lines": basic("bob@example.com", "wrong")},
        {"lines": [(b"authorization", b"Digest x")]},
        {"lines": [(b"x-skypilot-auth-mode", b"token")]},
        {"lines": [(b"x-requested-with", b"XMLHttpRequest")]},
        {"lines": [(b"sec-fetch-mode", b"cors")]},
        {"lines": [(b"accept", b"application/json")]},
        {"subject": "not an address"},
        {"path": "/sign-in"},
        {"path": "/sign-in?next=%2Fsign-in"},
    ],
)
def test_promise_29_only_a_browser_that_opens_a_page_on_skyauths_own_origin_is_redirected(redirecting, changes):
    expected = 403 if changes.get("endpoint") else 401  # the nginx endpoint reads other headers, which are missing here
    assert open_page(**changes).status == expected


@pytest.mark.parametrize(
    ("uri", "next_path"),
    [
        ("/things?q=" + "x" * 1_989, "/things?q=" + "x" * 1_989),
        ("/things?q=" + "x" * 2_000, "/things"),
        ("/things?q=" + "x" * 30_000, "/things"),
        ("/things?q=z\xc3\xbcrich", "/things"),
        ("/things?q=a b", "/things"),
        ("/" + "x" * 2_000, None),
        ("/" + "x" * 2_000 + "?q=1", None),
    ],
)
def test_a_return_url_that_is_too_long_or_unsafe_loses_its_query_and_never_the_redirect(redirecting, uri, next_path):
    answer = open_page(uri)
    assert answer.status == 302
    assert parse_qs(urlsplit(header(answer, "location")).query).get("next") == ([next_path] if next_path else None)


@pytest.mark.parametrize("proto", ["https", "wss", "https,http", "https, https", "WSS,http"])
def test_the_scheme_of_a_chain_of_proxies_or_of_a_websocket_is_the_clients(redirecting, proto):
    values = [(b"x-forwarded-method", b"GET"), (b"x-forwarded-host", b"api.example.com"), (b"x-forwarded-uri", b"/things")]
    policy = TrustPolicy(parse_networks(["10.0.0.0/8"]))
    found = filter_headers([*values, (b"x-forwarded-proto", proto.encode())], "10.0.0.1", policy)
    assert verify.decide(AuthRequest(CHROME, found.proxied)).status == 302


@pytest.mark.parametrize(
    ("host", "public"), [("API.example.com:443", SITE), ("api.example.com.", SITE), ("[::1]", "https://[::1]:443")]
)
def test_another_spelling_of_the_same_origin_is_the_same(redirecting, settings, host, public):
    settings.PUBLIC_URL = public
    assert header(open_page(host=host), "location") == f"{public}/sign-in?next=%2Fthings"


@pytest.mark.parametrize("uri", EVIL_REDIRECTS)
def test_promise_41_no_request_causes_a_redirect_to_another_site(redirecting, uri):
    answer = open_page(uri)
    path = quote(uri.partition("?")[0], safe="")  # safe where only the query is not
    assert answer.status in {302, 401, 403}
    assert header(answer, "location") in {None, f"{SITE}/sign-in?next={path}"}
    assert (answer.status == 302) <= (safe_next_path(uri.partition("?")[0]) != "")
    if answer.status != 302:
        for address in Page(answer).addresses:
            assert address == "/sign-in", "the page has no return URL either"


@pytest.mark.parametrize(
    "host", ["api.example.com@evil.example", "evil.example/api.example.com", "api.example.com,evil.example", ""]
)
def test_promise_41_no_host_causes_one_either(redirecting, host):
    answer = open_page(host=host)
    assert answer.status == 403
    assert header(answer, "location") is None


def test_the_second_request_of_nginx_can_be_redirected_and_the_first_never(redirecting):
    values = {"original-method": "GET", "original-host": "api.example.com", "original-uri": "/x", "proto": "https"}
    proxy_info = proxied()._replace(forwarded=values)
    statuses = [
        verify.decide(AuthRequest(CHROME, proxy_info, "GET", "", endpoint), ENDPOINTS[endpoint]).status
        for endpoint in (b"/authz/nginx", b"/authz/nginx/answer")
    ]
    assert statuses == [401, 302]


def test_a_request_of_envoy_can_be_redirected(redirecting):
    lines = [*CHROME, (b"host", b"api.example.com")]
    request = AuthRequest(lines, proxied(), "GET", "/x?y=z", b"/authz/envoy/")
    assert header(verify.decide(request, ENDPOINTS[b"/authz/envoy/"]), "location") == f"{SITE}/sign-in?next=%2Fx%3Fy%3Dz"


def test_an_allowed_request_is_not_redirected(redirecting, vera):
    answer = open_page(subject="vera@example.com")
    assert (answer.status, answer.body) == (200, b"")
