"""Django's authentication backends: the fields of a credential select exactly one of them."""

from dataclasses import fields
from inspect import signature

import pytest
from django.contrib.auth import authenticate, get_user
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory

from accounts.models import ServiceAccount, User
from audit.models import Entry
from authn import identify
from authn.backends import BasicBackend, ProxyHeaderBackend, TokenBackend
from authn.credentials import Basic, Bearer, ProxyHeader
from authn.proxy_header_middleware import SCOPE_KEY
from authn.proxy_headers import ProxyInfo
from tests.factories import PASSWORD

BACKENDS = {Bearer: TokenBackend, Basic: BasicBackend, ProxyHeader: ProxyHeaderBackend}


@pytest.fixture
def request_(db, settings):
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    return RequestFactory(REMOTE_ADDR="192.0.2.7").post("/login")


@pytest.fixture
def asked(monkeypatch):
    """Which backends were run, in order."""
    ran = []
    for backend in BACKENDS.values():
        real = backend.authenticate

        def run(self, request, *args, real=real, **kwargs):
            ran.append(type(self))
            return real(self, request, *args, **kwargs)

        run.__signature__ = signature(real)
        monkeypatch.setattr(backend, "authenticate", run)
    return ran


@pytest.mark.parametrize(("credential", "backend"), BACKENDS.items(), ids=lambda one: one.__name__)
def test_the_fields_of_a_credential_are_the_arguments_of_one_backend(credential, backend):
    names = [field.name for field in fields(credential)]
    assert list(signature(backend.authenticate).parameters)[2:] == names
    for other in set(BACKENDS.values()) - {backend}:
        with pytest.raises(TypeError):
            signature(other.authenticate).bind(None, None, **dict.fromkeys(names, ""))


def test_each_credential_is_authenticated_by_its_own_backend_only(request_, asked, bob, pipeline, pipeline_token):
    assert authenticate(request_, token=pipeline_token.encode()) == pipeline
    assert authenticate(request_, username="BOB@example.com", password=PASSWORD) == bob
    assert authenticate(request_, subject="bob@example.com", groups=None) == bob
    assert asked == [TokenBackend, BasicBackend, ProxyHeaderBackend]


@pytest.mark.parametrize(
    "credentials",
    [
        {"token": b"sky_nonsense"},
        {"username": "bob@example.com", "password": "wrong"},
        {"username": "nobody", "password": "x"},
        {"username": "a:b\x00c", "password": "x"},
        {"subject": "no address", "groups": None},
    ],
)
def test_promise_08_a_bad_credential_ends_the_chain(request_, asked, bob, credentials):
    assert authenticate(request_, **credentials) is None
    assert len(asked) == 1
    assert Entry.objects.get().event == "sign-in.refused"
    assert Entry.objects.get().peer == "192.0.2.7"


def test_a_backend_raises_permission_denied_for_a_bad_credential(request_, bob):
    with pytest.raises(PermissionDenied):
        TokenBackend().authenticate(request_, token=b"x")
    with pytest.raises(PermissionDenied):
        BasicBackend().authenticate(request_, username="bob@example.com", password="x")
    with pytest.raises(PermissionDenied):
        ProxyHeaderBackend().authenticate(request_, subject="x")


@pytest.mark.parametrize(("username", "password"), [(None, "x"), ("bob@example.com", None), (None, None)])
def test_a_name_without_a_password_is_not_a_credential(request_, username, password):
    assert BasicBackend().authenticate(request_, username=username, password=password) is None
    assert not Entry.objects.exists()


def test_the_shared_credential_is_no_django_user(request_, settings):
    from passlib.hash import sha512_crypt

    settings.AUTH_STRING = f"team:{sha512_crypt.using(rounds=1_000).hash('secret')}"
    assert authenticate(request_, username="team", password="secret") is None
    assert not Entry.objects.exists(), "it is a good credential, though nobody's"


def test_the_login_form_works_where_http_basic_is_off(request_, settings, bob):
    settings.AUTH_BASIC = False
    assert authenticate(request_, username="bob@example.com", password=PASSWORD) == bob


def test_promise_22_the_clients_address_comes_from_the_header_filter(request_, bob):
    request_.META["HTTP_X_FORWARDED_FOR"] = "203.0.113.9"
    authenticate(request_, username="bob@example.com", password="wrong")
    assert Entry.objects.get().peer == "192.0.2.7"
    request_.scope = {SCOPE_KEY: ProxyInfo(trusted=True, peer="10.0.0.1", client="198.51.100.4")}
    authenticate(request_, username="bob@example.com", password="wrong")
    assert set(Entry.objects.values_list("peer", flat=True)) == {"192.0.2.7", "198.51.100.4"}


def test_a_backend_works_without_a_request(bob, pipeline, pipeline_token):
    assert authenticate(None, token=pipeline_token.encode()) == pipeline
    assert authenticate(None, username="bob@example.com", password=PASSWORD) == bob


def test_promise_14_a_session_of_a_disabled_user_is_anonymous(rf, client, bob):
    client.login(username="bob@example.com", password=PASSWORD)
    request = rf.get("/")
    request.session = client.session
    assert get_user(request) == bob
    User.objects.update(is_active=False)
    assert isinstance(get_user(request), AnonymousUser)


def test_backends_grant_no_permissions(bob, alice):
    for backend in BACKENDS.values():
        assert not backend().has_perm(alice, "accounts.view_user")
        assert backend().get_all_permissions(alice) == set()
        assert backend().get_user(bob.pk) == bob
        assert backend().get_user(0) is None


def test_a_service_account_has_the_attributes_of_a_django_user(pipeline):
    assert (pipeline.is_authenticated, pipeline.is_anonymous) == (True, False)
    assert isinstance(pipeline, ServiceAccount)


def test_a_failure_of_skyauth_is_not_a_bad_credential(request_, monkeypatch, bob):
    import threading

    from authn import passwords

    monkeypatch.setattr(passwords, "_queue", threading.BoundedSemaphore(1))
    with passwords._slot(), pytest.raises(passwords.Busy):
        authenticate(request_, username="bob@example.com", password=PASSWORD)
    assert identify.sign_in_with_password(Basic("bob@example.com", PASSWORD), "").pk == bob.pk
