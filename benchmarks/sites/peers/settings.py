"""One Django project for the three peers, as lean as their documentation allows: what SkyAuth is measured against is at its best.

PEER says which of `urls.VIEWS` answers `/`, DATABASE where the tokens are: a file for SQLite, or PostgreSQL's port and database
as PORT/NAME.
"""

import os

SECRET_KEY = "a benchmark signs nothing that matters"  # noqa: S105
ALLOWED_HOSTS = ["api.example.com"]
ROOT_URLCONF = "benchmarks.sites.peers.urls"
WSGI_APPLICATION = "benchmarks.sites.peers.wsgi.application"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "rest_framework.authtoken",
    "knox",
    "rest_framework_api_key",
]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
}

_port, _, _name = os.environ["DATABASE"].partition("/")
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": _port,
        "NAME": _name,
        "USER": "postgres",
        "CONN_MAX_AGE": None,  # a new connection for each request would cost a factor of eight
    }
    if _port.isdigit()
    else {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["DATABASE"],
        "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"},
        "CONN_MAX_AGE": None,
    }
}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
