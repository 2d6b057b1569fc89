"""A demo API behind the gateway: answers every request with the identity headers that it received, as JSON.

Usage: python scripts/echo_upstream.py PORT [ADDRESS]
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

IDENTITY = ("Email", "User", "Groups", "Role", "Method")


class Echo(BaseHTTPRequestHandler):
    """Answers any method."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def answer(self) -> None:
        """Read the whole body, so that the next request on the connection starts at the right byte, and answer."""
        length = sum(len(part) for part in self._body())
        names = [f"X-Auth-Request-{name}" for name in IDENTITY]
        received = {
            "method": self.command,
            "path": self.path,
            "received_headers": {name: ", ".join(self.headers.get_all(name, [])) for name in names},
            "body_bytes": length,
        }
        content = json.dumps(received, indent=2).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 - http.server's names

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        left = int(self.headers.get("Content-Length", 0))
        while left and (part := self.rfile.read(min(left, 65_536))):
            left -= len(part)
            yield part


def main() -> None:
    """Serve on a port, of 127.0.0.1 without another address."""
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    server = ThreadingHTTPServer((address, int(sys.argv[1])), Echo)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
