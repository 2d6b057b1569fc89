"""Serves SkyAuth without the header filter, as nobody should: `python -m tests.raw.unfiltered KIND PORT`."""

import os
import sys
from wsgiref.simple_server import make_server

from tests.http_client import HOST

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")


def main(kind: str, port: int) -> None:
    """Serve until the process is stopped."""
    import uvicorn
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application

    if kind == "wsgi":
        make_server(HOST, port, get_wsgi_application()).serve_forever()
    application = get_asgi_application()
    if kind == "forward auth":
        from gateway.asgi import ForwardAuthApp

        application = ForwardAuthApp(application)
    # uvicorn's own handling of X-Forwarded-For is off: the test is about SkyAuth's.
    uvicorn.run(application, host=HOST, port=port, lifespan="off", interface="asgi3", proxy_headers=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
