"""Asks /readyz of the server in this container. The exit code is 0 if it is ready, else 1.

The image has no curl. The argument is another URL, for a server on another port or with TLS.
"""

import ssl
import sys
import urllib.error
import urllib.request


def main() -> int:
    """Return the exit code."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/readyz"
    # The certificate is for another name than 127.0.0.1.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=4):
            return 0
    except urllib.error.HTTPError as error:
        print(f"{url} returned {error.code}.")
    except OSError as error:
        print(f"{url} does not answer: {error}.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
