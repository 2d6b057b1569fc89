"""Every setting, read from the environment once, with a safe default. `docs/settings.md` is generated from this file."""

import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from skyauth.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment(BASE_DIR / ".env")


def _data_dir(text: str) -> Path:
    return (BASE_DIR / text).resolve()


def _secret_key(text: str) -> str:
    """Return the key given, or one that is made on first use and kept in DATA_DIR, readable by its owner only."""
    if text:
        if len(text) < 32:
            raise ValueError("it is shorter than 32 characters. Make one with: openssl rand -base64 48")
        return text
    path = DATA_DIR / "secret_key"
    try:
        DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            # Linking a finished file into place is atomic: two first starts agree on one key, and nobody reads half of one.
            made = DATA_DIR / f"secret_key.{secrets.token_hex(8)}"
            made.touch(mode=0o600, exist_ok=False)
            made.write_text(secrets.token_urlsafe(48), encoding="ascii")
            try:
                path.hardlink_to(made)
            finally:
                made.unlink()
        except FileExistsError:
            pass
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ValueError(f"it is not set, and none can be kept in DATA_DIR: {error.strerror}") from None


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.rstrip("/") or parts.query or parts.username:
        raise ValueError(f"{text!r} is not an origin. Write scheme and host alone, such as https://auth.example.com")
    return f"{parts.scheme}://{parts.netloc}".lower()


def _skypilot_url(text: str) -> str:
    if not text:
        return ""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{text!r} is no address of a server. Write scheme, host and port, such as http://127.0.0.1:46580")
    _ = parts.port  # raises ValueError for one that is none
    return text.rstrip("/")


env.section("The service")
DEBUG = env.flag("DEBUG", False, "Django's debug pages. They show settings and code: never where others can reach it.")
DATA_DIR = env.parsed(
    "DATA_DIR", "path", "var", "Where SQLite and a generated SECRET_KEY are kept, relative to the project.", _data_dir
)
SECRET_KEY = env.parsed(
    "SECRET_KEY",
    "text, at least 32 characters",
    "",
    "Signs sessions. Every replica needs the same one.",
    _secret_key,
    shown="made on first start and kept in DATA_DIR/secret_key",
)
PUBLIC_URL = env.parsed(
    "PUBLIC_URL",
    "origin",
    "http://127.0.0.1:8000",
    "Where people's browsers find SkyAuth. An https origin makes cookies Secure and switches HSTS on.",
    _public_url,
)
ALLOWED_HOSTS = [
    str(urlsplit(PUBLIC_URL).hostname),
    *env.words(
        "ALLOWED_HOSTS",
        ["localhost", "127.0.0.1", "[::1]"],
        "Further host names under which SkyAuth's own pages and API answer.",
    ),
]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ["DEBUG", "INFO", "WARNING", "ERROR"], "How much is logged, to standard error.")
LOG_FORMAT = env.choice("LOG_FORMAT", "line", ["line", "json"], "How: lines for people, or an object of JSON on each line.")

env.section("Storage")
_database = env.database(
    "DATABASE_URL",
    f"sqlite:///{DATA_DIR / 'skyauth.sqlite3'}",
    "The database. SQLite serves one machine; PostgreSQL serves replicas.",
    shown="SQLite in DATA_DIR",
)
DATABASE_TIMEOUT = env.number(
    "DATABASE_TIMEOUT", 5, "Seconds to wait for a connection or a lock; then the answer is 503.", least=1
)
UNUSED_SETTINGS = env.unused("CACHE_URL", "SkyAuth stores nothing in a shared cache.")

env.section("In front of SkyAuth")
TRUSTED_PROXIES = env.words(
    "TRUSTED_PROXIES",
    [],
    """Addresses or networks (CIDR) of the reverse proxies in front of SkyAuth. Only what they send is believed of the forwarded
    method, path, host, client address and user. Empty: nobody is trusted, and /authz/verify refuses everything.""",
)
AUTH_REDIRECT = env.flag(
    "AUTH_REDIRECT",
    False,
    """Whether a browser that opens a page without having signed in is sent to the sign-in page, and back again afterwards. Only
    where PUBLIC_URL is the origin of the protected page itself; programs, and browsers elsewhere, get 401 as ever.""",
)
AUTH_USER_HEADER_FORMAT = env.choice(
    "AUTH_USER_HEADER_FORMAT",
    "off",
    ["off", "plaintext", "jwt"],
    """Sign-in by an auth proxy's header: off, plaintext (the header is the user's e-mail address) or jwt (the header is a signed
    assertion, verified against AUTH_JWT_JWKS). Needs TRUSTED_PROXIES.""",
)
AUTH_USER_HEADER = env.text("AUTH_USER_HEADER", "X-Auth-Request-Email", "The header in which a trusted proxy names the user.")
AUTH_GROUPS_HEADER = env.text(
    "AUTH_GROUPS_HEADER",
    "",
    "The header in which a trusted proxy lists the user's groups, comma-separated (X-Auth-Request-Groups, say). Empty: none.",
)
AUTH_CREATE_USERS = env.flag(
    "AUTH_CREATE_USERS",
    True,
    "Whether a user whom the proxy names for the first time is created. If false, an admin creates users first.",
)
AUTH_JWT_JWKS = env.text(
    "AUTH_JWT_JWKS", "", "The key set (RFC 7517) that verifies assertions: an https URL, or the path of a file."
)
AUTH_JWT_ISSUER = env.text("AUTH_JWT_ISSUER", "", "The issuer (iss) that assertions must name.")
AUTH_JWT_AUDIENCE = env.text("AUTH_JWT_AUDIENCE", "", "The audience (aud) that assertions must name.")
AUTH_JWT_ALGORITHMS = env.words(
    "AUTH_JWT_ALGORITHMS",
    ["RS256", "ES256"],
    "The signature algorithms that are accepted: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA.",
)
AUTH_JWT_CLAIM = env.text("AUTH_JWT_CLAIM", "email", "The claim that names the user.")
AUTH_JWT_GROUPS_CLAIM = env.text("AUTH_JWT_GROUPS_CLAIM", "groups", "The claim that lists the user's groups.")

env.section("Upstreams that verify")
ASSERTION_KEYS = [
    BASE_DIR / name
    for name in env.words(
        "ASSERTION_KEYS",
        [],
        """Files with private keys (manage.py create_assertion_key makes one), relative to the project. The first signs what
        X-Auth-Request-Jwt asserts of the caller; /.well-known/jwks.json has the public halves of all. Empty: no assertion.""",
    )
]
ASSERTION_AUDIENCE = env.text(
    "ASSERTION_AUDIENCE", "", "The audience (aud) of every assertion. Empty: the host that the request asked for."
)

env.section("Roles")
RBAC_DEFAULT_ROLE = env.text(
    "RBAC_DEFAULT_ROLE",
    "admin",
    """The role of a user whom nobody gave one: any role's name, or first-admin (recommended): the first user becomes admin,
    every later one user. The default is admin, as with SkyPilot, to ease first-time set-up.""",
)

RECENT_REQUESTS = env.number(
    "RECENT_REQUESTS",
    2_000,
    """How many of the last requests are kept, one for each caller, method and path, so that a change of roles or routes can be
    tried against them before it is saved. 0: none.""",
)

env.section("Passwords")
AUTH_BASIC = env.flag("AUTH_BASIC", True, "Whether HTTP Basic is accepted, with a user's own or the shared password.")
AUTH_STRING = env.text(
    "AUTH_STRING",
    "",
    """One or more htpasswd lines (made with htpasswd -nB NAME), separated by newlines or spaces: a password that people
    share. It opens the protected APIs without roles and without an identity, and nothing of SkyAuth itself.""",
)
AUTH_REMEMBER_SECONDS = env.number(
    "AUTH_REMEMBER_SECONDS",
    300,
    "How long a process remembers a good password, as a keyed digest, so as not to hash on every request. 0: not at all.",
)
AUTH_HASHING_SLOTS = env.number(
    "AUTH_HASHING_SLOTS", 2, "How many passwords a process hashes at the same time; more wait, then get 503.", least=1
)
AUTH_FAILURE_LIMIT = env.number(
    "AUTH_FAILURE_LIMIT", 5, "Wrong passwords for one name from one address before that pair must wait.", least=1
)
AUTH_FAILURE_LIMIT_PER_ADDRESS = env.number(
    "AUTH_FAILURE_LIMIT_PER_ADDRESS",
    100,
    "Wrong passwords from one address, over all names, before that address must wait.",
    least=1,
)
AUTH_COOL_OFF_MINUTES = env.number("AUTH_COOL_OFF_MINUTES", 15, "How long it must wait.", least=1)

env.section("Service accounts")
ENABLE_SERVICE_ACCOUNTS = env.flag("ENABLE_SERVICE_ACCOUNTS", True, "Whether service-account tokens are accepted.")
TOKEN_DEFAULT_DAYS = env.number(
    "TOKEN_DEFAULT_DAYS", 30, "After how many days a token expires when nobody says otherwise.", least=1
)
TOKEN_MAX_DAYS = env.number(
    "TOKEN_MAX_DAYS",
    0,
    "The longest life of a token in days. 0: no limit, and tokens that never expire can be asked for.",
)

env.section("SkyPilot")
SKYPILOT_URL = env.parsed(
    "SKYPILOT_URL",
    "URL",
    "",
    """The private address of the SkyPilot API server behind SkyAuth, such as http://127.0.0.1:46580. SkyAuth asks it for its
    version and tells it people's roles. Nobody but SkyAuth and the gateway may reach it. Empty: there is none.""",
    _skypilot_url,
)
SKYPILOT_VERSION = env.text(
    "SKYPILOT_VERSION", "0.14.1", "The version of SkyPilot that the CLI is told. With SKYPILOT_URL, the server's own is told."
)
SKYPILOT_API_VERSION = env.number(
    "SKYPILOT_API_VERSION",
    62,
    "The API version that the CLI is told; it expects at least 24. With SKYPILOT_URL, the server's own is told.",
    least=24,
)
SKYPILOT_COMMIT = env.text(
    "SKYPILOT_COMMIT",
    "7e595970a806dcc9eefadf459f399edf1733e962",
    "The commit of SkyPilot that the CLI is told. With SKYPILOT_URL, the server's own is told.",
)

SKYPILOT_SHARED_BASIC = env.flag(
    "SKYPILOT_SHARED_BASIC",
    False,
    """Whether the shared password (AUTH_STRING) opens the SkyPilot API server. It knows no roles then and goes by what the client
    says of itself, as it does behind an ingress with Basic: whoever knows the password is an administrator there.""",
)

env.section("Sessions and the audit log")
SESSION_HOURS = env.number("SESSION_HOURS", 12, "How long a browser stays signed in.", least=1)
SESSION_IDLE_HOURS = env.number(
    "SESSION_IDLE_HOURS", 12, "After how long without a request a browser is signed out, however long it might stay.", least=1
)
CLI_SESSION_DAYS = env.number(
    "CLI_SESSION_DAYS",
    7,
    "How long a command line that a person signed in stays so. The sky CLI keeps what it is given for seven days.",
    least=1,
)
AUDIT_REFUSALS_PER_MINUTE = env.number(
    "AUDIT_REFUSALS_PER_MINUTE",
    60,
    "How many refusals of each kind (request.denied, sign-in.refused) a process writes to the audit log each minute.",
    least=1,
)
AUDIT_KEEP_DAYS = env.number("AUDIT_KEEP_DAYS", 365, "After how many days `manage.py prune` forgets audit entries.", least=1)

env.refuse_unknown()

INSTALLED_APPS = [
    "skyauth",  # before staticfiles, whose runserver it replaces
    "audit.apps.AuditConfig",
    "rbac.apps.RbacConfig",
    "accounts.apps.AccountsConfig",
    "revision.apps.RevisionConfig",
    "authn.apps.AuthnConfig",
    "doctor.apps.DoctorConfig",
    "ops",
    "adminsite.apps.AdminSiteConfig",
    "gateway",
    "api",
    "skypilot",
    "dashboard",
    "adminsite.apps.DjangoAdminConfig",  # django.contrib.admin
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "csp",
]

MIDDLEWARE = [
    "authn.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "skyauth.pages.InWords",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "authn.middleware.PrincipalMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "skyauth.urls"
ASGI_APPLICATION = "skyauth.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

_SQLITE = _database["ENGINE"] == "django.db.backends.sqlite3"
if not _SQLITE and _database["ENGINE"] != "django.db.backends.postgresql":
    raise ImproperlyConfigured(
        "DATABASE_URL must name SQLite (sqlite:////path/to/file) or PostgreSQL (postgres://user:password@host:5432/name)."
    )
_database["OPTIONS"] = (
    {
        "timeout": DATABASE_TIMEOUT,
        "transaction_mode": "IMMEDIATE",  # a writer waits at BEGIN, where waiting works, and not at its first write
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    if _SQLITE
    else {
        **_database.get("OPTIONS", {}),
        "connect_timeout": DATABASE_TIMEOUT,
        "pool": {"min_size": 1, "max_size": 24, "timeout": DATABASE_TIMEOUT},
        "options": f"-c lock_timeout={DATABASE_TIMEOUT}s -c statement_timeout={DATABASE_TIMEOUT * 6}s",
    }
)
# Kept, because a new connection for each request costs a factor of eight. Django serves each request in a thread of its own
# under ASGI: on PostgreSQL a connection that belongs to a thread would be lost with it, so there they belong to a pool.
_database["CONN_MAX_AGE"] = None if _SQLITE else 0
_database["CONN_HEALTH_CHECKS"] = not _SQLITE  # a file needs no look whether it is still there
DATABASES: dict[str, dict[str, Any]] = {"default": _database}

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "authn.backends.TokenBackend",
    "authn.backends.BasicBackend",
    "authn.backends.ProxyHeaderBackend",
]
PASSWORD_HASHERS = ["accounts.hashers.Argon2idHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ("username", "email", "display_name")},
    },
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "accounts.hashers.MaximumLengthValidator"},
]

# django-axes counts failures in its table; `authn.lockout` asks it, so that every door is counted the same way.
AXES_FAILURE_LIMIT = AUTH_FAILURE_LIMIT
AXES_COOLOFF_TIME = timedelta(minutes=AUTH_COOL_OFF_MINUTES)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]  # the pair: a stranger elsewhere cannot lock the owner out
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "authn.lockout.client_address"
AXES_DISABLE_ACCESS_LOG = True  # the audit log has it
AXES_VERBOSE = False
AXES_ENABLE_ADMIN = False  # adminsite.lockouts shows what is to be seen
AXES_SENSITIVE_PARAMETERS: list[str] = []

SECURE_COOKIES = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_NAME = "__Host-skyauth" if SECURE_COOKIES else "skyauth"
SESSION_COOKIE_AGE = SESSION_HOURS * 3600
SESSION_ENGINE = "authn.session_store"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_NAME = "__Host-skyauth-csrf" if SECURE_COOKIES else "skyauth-csrf"
CSRF_FAILURE_VIEW = "skyauth.errors.csrf_failure"
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_COOKIES else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
LOGIN_URL = "dashboard:sign-in"
LOGIN_REDIRECT_URL = "dashboard:home"

CONTENT_SECURITY_POLICY: dict[str, Any] = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["api.authentication.PrincipalAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["api.permissions.Needs"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_FILTER_BACKENDS": [
        "django_filters.rest_framework.DjangoFilterBackend",
        "rest_framework.filters.SearchFilter",
        "rest_framework.filters.OrderingFilter",
    ],
    "DEFAULT_PAGINATION_CLASS": "api.pagination.Pages",
    "DEFAULT_SCHEMA_CLASS": "api.schema.Schema",
    "EXCEPTION_HANDLER": "api.errors.respond",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,  # Accept alone says what an answer shall be
}
SPECTACULAR_SETTINGS = {
    "TITLE": "SkyAuth",
    "DESCRIPTION": "Users, service accounts, roles, routes and audit of SkyAuth.",
    "VERSION": "v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,  # what is sent and what is answered differ: a password is only ever sent
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # no collectstatic needed; files are found once, at start

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False
FORMAT_MODULE_PATH = "skyauth.formats"  # what pages show: ISO 8601, not the American "a.m."
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SILENCED_SYSTEM_CHECKS = [
    "axes.W002",  # no axes middleware: a lock-out looks like any other refusal, by design
    "axes.W003",  # no axes backend: `authn.lockout` asks axes for every door, Django's or not
    "security.W008",  # no redirect to https by us: the proxy in front does that
    # One setting, PUBLIC_URL, decides these three, and skyauth.W103 says when it should be https.
    *(() if SECURE_COOKIES else ("security.W004", "security.W012", "security.W016")),
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "skyauth.logs.RequestId"}, "seldom": {"()": "skyauth.logs.Seldom"}},
    "formatters": {"line": {"()": "skyauth.logs.Lines"}, "json": {"()": "skyauth.logs.Json"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "filters": ["seldom", "request_id"], "formatter": LOG_FORMAT}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "axes": {"level": "ERROR"},  # its warnings carry the names that people typed
        # Below INFO it tells statements with their parameters. Its default handlers, gone here, write lines of their own.
        "django": {"level": "INFO"},
        "django.request": {"level": "ERROR"},  # a 4xx is the client's, and anybody can cause any number of them
    },
}
