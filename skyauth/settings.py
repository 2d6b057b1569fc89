"""Django's settings. `skyauth.configuration` reads those of SkyAuth from the environment; they are all settings here, too."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from core import sqlite_file
from core.postgresql.deadline import STATEMENT_FACTOR
from core.postgresql.outage import PooledConnection
from skyauth import __version__, database_url
from skyauth.configuration import *  # noqa: F403 - Django reads every setting from this module
from skyauth.configuration import (
    AUTH_COOL_OFF_MINUTES,
    AUTH_FAILURE_LIMIT,
    BASE_DIR,
    DATABASE_POOL_SIZE,
    DATABASE_TIMEOUT,
    LOG_FORMAT,
    LOG_LEVEL,
    PUBLIC_URL,
    SESSION_HOURS,
    database,
)

VERSION = __version__  # for packages that do not import `skyauth`

INSTALLED_APPS = [
    "skyauth",  # before staticfiles, because it replaces runserver
    "audit.apps.AuditConfig",
    "rbac.apps.RbacConfig",
    "accounts.apps.AccountsConfig",
    "revision.apps.RevisionConfig",
    "integrations.apps.IntegrationsConfig",
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
    "skyauth.pages.ErrorPages",
    "authn.middleware.SessionCookieMiddleware",
    "gateway.any_host.HostCheck",
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

_SQLITE = database["ENGINE"] == database_url.SQLITE
if _SQLITE:
    database["ENGINE"] = "core.sqlite"
    sqlite_file.follow(Path(database["NAME"]), Path(database.pop("LINK", database["NAME"])))
database["OPTIONS"] = (
    {
        "timeout": DATABASE_TIMEOUT,
        "transaction_mode": "IMMEDIATE",  # a writer waits for the lock at BEGIN; at its first write it would fail
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    if _SQLITE
    else {
        # The kernel closes a connection whose server is silent for so long. Nothing else notices a host that is gone.
        "keepalives_idle": DATABASE_TIMEOUT,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": DATABASE_TIMEOUT * 1_000,  # milliseconds
        # A standby answers with data of its past, and SkyAuth would let callers through who were revoked since.
        "target_session_attrs": "primary",
        **database["OPTIONS"],
        "connect_timeout": DATABASE_TIMEOUT,
        "pool": {
            "connection_class": PooledConnection,
            "min_size": 1,
            "max_size": DATABASE_POOL_SIZE,
            "timeout": DATABASE_TIMEOUT,
            "max_lifetime": 30,  # after a failover, a connection to the former primary is not used for longer
            "reconnect_timeout": 0,  # the next request tries again: an interval that grows would outlast the outage
        },
        # After those of DATABASE_URL, because the last value of a parameter is the one that applies.
        "options": " ".join(
            [
                database["OPTIONS"].get("options", ""),
                f"-c lock_timeout={DATABASE_TIMEOUT}s -c statement_timeout={DATABASE_TIMEOUT * STATEMENT_FACTOR}s",
            ]
        ).strip(),
    }
)
# SQLite connections persist: a new connection for each request is eight times slower. Under ASGI, Django uses a new thread for
# each request; a PostgreSQL connection would be lost with its thread, so a pool holds them.
if not _SQLITE:
    database["ENGINE"] = "core.postgresql"
database["CONN_MAX_AGE"] = None if _SQLITE else 0
database["CONN_HEALTH_CHECKS"] = (
    False  # a file needs none, and core.postgresql checks a connection when it takes it from the pool
)
DATABASES: dict[str, dict[str, Any]] = {"default": database}

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

# django-axes counts failures in its table; `authn.lockout` uses it for all interfaces.
AXES_FAILURE_LIMIT = AUTH_FAILURE_LIMIT
AXES_COOLOFF_TIME = timedelta(minutes=AUTH_COOL_OFF_MINUTES)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]  # the pair, so that a stranger at another address cannot lock out a user
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "authn.lockout.client_address"
AXES_DISABLE_ACCESS_LOG = True  # the audit log has it
AXES_VERBOSE = False
AXES_ENABLE_ADMIN = False  # adminsite.lockouts shows them
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
    "DEFAULT_PERMISSION_CLASSES": ["api.permissions.ActionPermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "api.negotiation.ContentNegotiation",
    "DEFAULT_PAGINATION_CLASS": "api.pagination.ApiPagination",
    "DEFAULT_SCHEMA_CLASS": "api.schema.Schema",
    "EXCEPTION_HANDLER": "api.errors.respond",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,  # only Accept selects the format
}
SPECTACULAR_SETTINGS = {
    "TITLE": "SkyAuth",
    "DESCRIPTION": "Manage users, service accounts, roles and routes, and read the audit log.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "api.schema.name_nullable_types"],
    "COMPONENT_SPLIT_REQUEST": True,  # requests and responses differ: a password is never in a response
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # without collectstatic; files are found once, at the start

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False
FORMAT_MODULE_PATH = "skyauth.formats"  # ISO 8601 in pages, without "a.m."
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATA_UPLOAD_MAX_MEMORY_SIZE = 6_000_000  # core.request_limits.MAX_BODY, so that an import as JSON or in a form has its limit

SILENCED_SYSTEM_CHECKS = [
    "axes.W002",  # no axes middleware: a lockout looks like any other refusal, by design
    "axes.W003",  # no axes backend: `authn.lockout` calls axes for all interfaces
    "security.W008",  # the proxy redirects to https
    "security.W005",  # subdomains, and the preload list of browsers, are not SkyAuth's: the proxy can add both to HSTS
    "security.W021",
    # PUBLIC_URL decides these three, and skyauth.W103 warns if it should be https.
    *(() if SECURE_COOKIES else ("security.W004", "security.W012", "security.W016")),
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "skyauth.logs.RequestId"}, "seldom": {"()": "skyauth.logs.SeldomFilter"}},
    "formatters": {"line": {"()": "skyauth.logs.TextFormatter"}, "json": {"()": "skyauth.logs.JsonLineFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "filters": ["seldom", "request_id"], "formatter": LOG_FORMAT}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "axes": {"level": "ERROR"},  # its warnings contain usernames
        # Below INFO, it logs SQL statements with their parameters. Its default handlers have another format, so they are removed.
        "django": {"level": "INFO"},
        "psycopg.pool": {"level": "ERROR"},  # skyauth.database logs a loss once, and not every attempt to connect
        "django.request": {"level": "ERROR"},  # any client can cause any number of 4xx responses
    },
}
