"""The settings of SkyAuth, read from the environment once at the start. docs/settings.md is generated from this file.

`skyauth.settings` adds Django's own, which follow from these.
"""

import importlib.util
import sys
from pathlib import Path
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured

from skyauth import database_url, parsers
from skyauth.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment(BASE_DIR / ".env")

env.section("The service")
DEBUG = env.flag(
    "DEBUG", False, "Enables Django's debug pages. They show settings and code, so do not enable them on a reachable server."
)
DATA_DIR = env.parsed(
    "DATA_DIR",
    "path",
    "var",
    "The directory of the SQLite database and of a generated SECRET_KEY, relative to the project.",
    lambda text: parsers.data_dir(text, BASE_DIR),
)
# For commands only: other programs, such as the tests, are not about the data of the running server.
RUNNING_SETTINGS = env.read_running(DATA_DIR / "make-run.env") if Path(sys.argv[0]).name in {"manage.py", "skyauth"} else []
PUBLIC_URL = env.parsed(
    "PUBLIC_URL",
    "origin",
    "http://127.0.0.1:8000",
    "The origin where browsers reach SkyAuth. With https, cookies are Secure and HSTS is on.",
    parsers.public_url,
)
ALLOWED_HOSTS = [
    parsers.host_of(PUBLIC_URL),
    *env.words(
        "ALLOWED_HOSTS",
        ["localhost", "127.0.0.1", "[::1]"],
        "Other host names that SkyAuth's own pages and API accept.",
        parse=parsers.allowed_host,
    ),
]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
LOG_LEVEL = env.choice(
    "LOG_LEVEL",
    "INFO",
    ["DEBUG", "INFO", "WARNING", "ERROR"],
    "The minimum level of log messages. SkyAuth logs to standard error.",
)
LOG_FORMAT = env.choice(
    "LOG_FORMAT", "line", ["line", "json"], "The format of log messages: text lines, or one JSON object on each line."
)
TRACING = env.flag(
    "TRACING",
    False,
    """Sends OpenTelemetry traces to OTEL_EXPORTER_OTLP_ENDPOINT. The packages of requirements-tracing.txt must be installed.""",
)
if TRACING and importlib.util.find_spec("opentelemetry") is None:
    raise ImproperlyConfigured("TRACING=true needs more packages: pip install --require-hashes -r requirements-tracing.txt")

METRICS_TOKEN = env.secret(
    "METRICS_TOKEN",
    "text, at least 32 characters",
    """A token that reads /metrics, and nothing else, without the database. So metrics can also be read while the database is
    lost. Empty: only callers with the permission metrics:read can read them.""",
    parsers.metrics_token,
    default="",
)

env.section("Storage")
database = env.secret(
    "DATABASE_URL",
    "URL",
    """The database. Use SQLite on a single machine, and PostgreSQL for several replicas. For PostgreSQL, options of the URL are
    connection parameters of libpq, such as ?sslmode=verify-full. Other options are refused.""",
    lambda text: database_url.parse(text, BASE_DIR),
    default=f"sqlite:///{quote(str(DATA_DIR / 'skyauth.sqlite3'))}",
    default_text="SQLite in DATA_DIR",
)
if Path(database["NAME"]).parent == DATA_DIR.resolve():
    parsers.make_data_dir(DATA_DIR)
DATABASE_TIMEOUT = env.number(
    "DATABASE_TIMEOUT",
    5,
    """The time in seconds to wait for a connection, a lock or a lost database. After that, the response is 503. On PostgreSQL, a
    statement of a page, the API or a command takes at most six times as long.""",
    least=1,
    most=3_600,
)
DATABASE_POOL_SIZE = env.number(
    "DATABASE_POOL_SIZE",
    24,
    """The maximum number of pooled connections of each worker process to PostgreSQL. A request that finds all of them in use
    waits for one, and gets 503 after DATABASE_TIMEOUT. A worker opens up to two more connections beside these. SQLite has no
    pool.""",
    least=1,
    most=1_000,
)
UNUSED_SETTINGS = env.unused("CACHE_URL", "SkyAuth stores nothing in a shared cache.")

env.section("The secret key")
SECRET_KEY = env.secret(
    "SECRET_KEY",
    "text, at least 32 characters",
    "The key that signs sessions. All replicas need the same key. With PostgreSQL, it must be set.",
    lambda text: parsers.secret_key(text, DATA_DIR, generate=database["ENGINE"] == database_url.SQLITE),
    default="",
    default_text="generated on first start and stored in DATA_DIR/secret_key",
)
SECRET_KEY_FALLBACKS = env.secret(
    "SECRET_KEY_FALLBACKS",
    "texts, separated by spaces or lines",
    """Earlier values of SECRET_KEY. What they signed is still accepted; new signatures use SECRET_KEY. Remove them when the
    sessions of that time have expired.""",
    parsers.secret_keys,
    default="",
)

env.section("In front of SkyAuth")
TRUSTED_PROXIES = env.words(
    "TRUSTED_PROXIES",
    [],
    """The addresses or networks (CIDR) of the reverse proxies in front of SkyAuth. SkyAuth accepts the forwarded method, path,
    host, client address and user only from them. The word unix stands for every program that can connect to the Unix socket of
    serve --unix. If empty, no proxy is trusted and /authz/verify refuses every request.""",
)
AUTH_REDIRECT = env.flag(
    "AUTH_REDIRECT",
    False,
    """Redirects a browser that is not signed in to the sign-in page, and back after sign-in. This works only if PUBLIC_URL is
    the origin of the protected page. Programs, and browsers on other origins, get 401.""",
)
AUTH_USER_HEADER_FORMAT = env.choice(
    "AUTH_USER_HEADER_FORMAT",
    "off",
    ["off", "plaintext", "jwt"],
    """Sign-in through the header of an auth proxy: off, plaintext (the header contains the user's e-mail address), or jwt (the
    header contains a JWT, which SkyAuth verifies with AUTH_JWT_JWKS). Requires TRUSTED_PROXIES.""",
)
AUTH_USER_HEADER = env.text("AUTH_USER_HEADER", "X-Auth-Request-Email", "The header in which a trusted proxy sends the user.")
AUTH_USER_PREFIX = env.text(
    "AUTH_USER_PREFIX",
    "",
    """A text before the e-mail address that the identity provider sends, such as accounts.google.com: of Google IAP. SkyAuth
    removes it, and refuses a user without it.""",
)
AUTH_GROUPS_HEADER = env.text(
    "AUTH_GROUPS_HEADER",
    "",
    """The header in which a trusted proxy sends the user's groups, such as X-Auth-Request-Groups. If a request does not have
    this header, the user is in no group. If empty, SkyAuth reads no groups.""",
)
AUTH_GROUPS_SEPARATOR = env.parsed(
    "AUTH_GROUPS_SEPARATOR",
    "one character, or space",
    ",",
    "The separator of the groups in AUTH_GROUPS_HEADER. Blanks around a group are ignored.",
    parsers.separator,
)
AUTH_CREATE_USERS = env.flag(
    "AUTH_CREATE_USERS",
    True,
    "Creates a user on the first sign-in through the proxy. If false, an admin creates users.",
)
AUTH_JWT_JWKS = env.parsed(
    "AUTH_JWT_JWKS",
    "text",
    "",
    """The JSON Web Key Set (RFC 7517) for AUTH_USER_HEADER_FORMAT=jwt: an https URL, or the path of a file, relative to the
    project.""",
    lambda text: parsers.url_or_path(text, BASE_DIR),
)
AUTH_JWT_ISSUER = env.text("AUTH_JWT_ISSUER", "", "The issuer (iss) that a JWT must contain.")
AUTH_JWT_AUDIENCE = env.words(
    "AUTH_JWT_AUDIENCE", [], "The audiences that SkyAuth accepts. A JWT must contain one of them (aud)."
)
AUTH_JWT_ALGORITHMS = env.words(
    "AUTH_JWT_ALGORITHMS",
    ["RS256", "ES256"],
    "The accepted signature algorithms. Choose from RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA.",
)
AUTH_JWT_CLAIM = env.text("AUTH_JWT_CLAIM", "email", "The claim with the user.")
AUTH_JWT_GROUPS_CLAIM = env.text(
    "AUTH_JWT_GROUPS_CLAIM",
    "groups",
    """The claim with the user's groups: a list of names, or one name. A path such as realm_access.roles is allowed. If a JWT does
    not have this claim, the user is in no group. If empty, SkyAuth reads no groups.""",
    optional=True,
)
AUTH_JWT_MAX_HOURS = env.number(
    "AUTH_JWT_MAX_HOURS",
    24,
    """The maximum lifetime of a JWT in hours: the time from iat to exp, or from now to exp if it has no iat. SkyAuth refuses a
    JWT that is valid for longer.""",
    least=1,
)

env.section("Signed assertions for upstreams")
ASSERTION_KEYS = [
    BASE_DIR / name
    for name in env.words(
        "ASSERTION_KEYS",
        [],
        """Files with private keys, relative to the project; manage.py create_assertion_key creates one. The first key signs
        X-Auth-Request-Jwt, the assertion about the caller. /.well-known/jwks.json publishes the public keys of all. Empty: no
        assertions.""",
    )
]
ASSERTION_AUDIENCE = env.text("ASSERTION_AUDIENCE", "", "The audience (aud) of every assertion. Empty: the host of the request.")

env.section("Roles")
RBAC_DEFAULT_ROLE = env.text(
    "RBAC_DEFAULT_ROLE",
    "admin",
    """The role of users who sign in for the first time and have no assigned role: the name of a role, or first-admin
    (recommended), which makes the first user admin and all others user. first-admin makes one admin, once: after an
    installation has had an admin, every first-time user gets user. A user whom an admin creates without a role gets user, or
    this role if it has fewer permissions. The default is admin, as in SkyPilot, to simplify the first setup.""",
)

RECENT_REQUESTS = env.number(
    "RECENT_REQUESTS",
    2_000,
    """The number of recent requests that are stored, one for each caller, method and path. The preview of a role or route
    change uses them. 0: none.""",
)

env.section("Passwords")
AUTH_BASIC = env.flag("AUTH_BASIC", True, "Accepts HTTP Basic, with the password of a user or the shared password.")
AUTH_STRING = env.secret(
    "AUTH_STRING",
    "text",
    """A shared password: one or more htpasswd lines, created with htpasswd -nB NAME and separated by newlines or spaces. It
    gives access to the protected APIs without a role and without an identity, but not to SkyAuth itself.""",
    str,
    default="",
)
AUTH_REMEMBER_SECONDS = env.number(
    "AUTH_REMEMBER_SECONDS",
    300,
    "The time in seconds that a process caches a correct password, as a keyed digest, to avoid hashing. 0: no cache.",
)
AUTH_HASHING_SLOTS = env.number(
    "AUTH_HASHING_SLOTS",
    2,
    "The number of passwords that a process hashes at the same time. Other requests wait, and then get 503.",
    least=1,
)
AUTH_FAILURE_LIMIT = env.number(
    "AUTH_FAILURE_LIMIT",
    5,
    "The number of wrong passwords for one username from one address before this pair is locked out.",
    least=1,
)
AUTH_FAILURE_LIMIT_PER_ADDRESS = env.number(
    "AUTH_FAILURE_LIMIT_PER_ADDRESS",
    100,
    "The number of wrong passwords from one address, for any username, before this address is locked out.",
    least=1,
)
AUTH_COOL_OFF_MINUTES = env.number("AUTH_COOL_OFF_MINUTES", 15, "The duration of a lockout in minutes.", least=1)

env.section("Service accounts")
ENABLE_SERVICE_ACCOUNTS = env.flag("ENABLE_SERVICE_ACCOUNTS", True, "Accepts the tokens of service accounts.")
TOKEN_DEFAULT_DAYS = env.number("TOKEN_DEFAULT_DAYS", 30, "The lifetime of a token in days, if none is specified.", least=1)
TOKEN_MAX_DAYS = env.number(
    "TOKEN_MAX_DAYS",
    0,
    "The maximum lifetime of a token in days. 0: no maximum, and tokens that never expire are allowed.",
)

env.section("SkyPilot")
SKYPILOT_URL = env.parsed(
    "SKYPILOT_URL",
    "URL",
    "",
    """The private address of the SkyPilot API server behind SkyAuth, such as http://127.0.0.1:46580. SkyAuth reads its version
    and sends it the roles of users. Make sure that only SkyAuth and the gateway can reach it. Empty: no SkyPilot API server.""",
    parsers.server_url,
)
SKYPILOT_VERSION = env.text(
    "SKYPILOT_VERSION",
    "0.14.1",
    "The SkyPilot version that the CLI receives. With SKYPILOT_URL, it receives the version of the server.",
)
SKYPILOT_API_VERSION = env.number(
    "SKYPILOT_API_VERSION",
    62,
    "The API version that the CLI receives; it needs at least 24. With SKYPILOT_URL, it receives that of the server.",
    least=24,
)
SKYPILOT_COMMIT = env.text(
    "SKYPILOT_COMMIT",
    "7e595970a806dcc9eefadf459f399edf1733e962",
    "The SkyPilot commit that the CLI receives. With SKYPILOT_URL, it receives that of the server.",
)

SKYPILOT_SHARED_BASIC = env.flag(
    "SKYPILOT_SHARED_BASIC",
    False,
    """Accepts the shared password (AUTH_STRING) for the SkyPilot API server. The server then trusts the user that the client
    sends, as behind an ingress with HTTP Basic. Everyone with the password is an administrator there.""",
)

env.section("Sessions and the audit log")
SESSION_HOURS = env.number("SESSION_HOURS", 12, "The maximum duration of a browser session in hours.", least=1)
SESSION_IDLE_HOURS = env.number(
    "SESSION_IDLE_HOURS", 12, "A browser session expires after this number of hours without a request.", least=1
)
CLI_SESSION_DAYS = env.number(
    "CLI_SESSION_DAYS",
    7,
    "The duration of a CLI session in days. The sky CLI stores its credentials for seven days.",
    least=1,
)
AUDIT_REFUSALS_PER_MINUTE = env.number(
    "AUDIT_REFUSALS_PER_MINUTE",
    60,
    "The maximum number of audit entries for each kind of refusal (request.denied, sign-in.refused), per process and minute.",
    least=1,
)
AUDIT_KEEP_DAYS = env.number(
    "AUDIT_KEEP_DAYS",
    365,
    """`manage.py prune` deletes audit entries, and names of deleted users that are not blocked, after this number of days.""",
    least=1,
)

CHANGED_SETTINGS = env.changed()
env.refuse_unknown()
