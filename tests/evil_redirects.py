"""Addresses that lead, or in some browser once led, to another host than the one they are opened on."""

_HOST = "evil.example"
_PREFIXES = (
    "//", "///", "////", "/\\", "\\/", "\\\\", "\\", "/\\/", "//\\", "/\\\\", "/\t/", "/\n/", "/\r/", "/\x00/", "/ /", "/\x0b/",
    "/\x0c/", "/\x1f/", "/\x7f/", "/\u00a0/", "/\u2028/", "/\ufeff/", "/\uff0f", "/\u2044/", "/.//", "/..//", "/../\\", "/./\\",
    "/;//", "/;/../", "/%2f", "/%2F", "/%5c", "/%5C", "%2f%2f", "/%09/", "/%0a/", "/%0d%0a/", "/%00/", "/%2e%2e//", "/%2e/%2e//",
    "/a/..//", "/a//", "/a/%2f", "/a\\", "/a#//", "#//", "?//", "", "@", ".", "..", ":", "::", "http:", "http:/", "http://",
    "https:", "https:/", "https:///", "HtTpS://", "https:\\\\", "h\tttps://", " https://", "\thttps://", "\nhttps://", " //",
    "\t//", "\x00//", "\u00a0//", "\u3000//", "ftp://", "ws://", "//@", "//auth.example.com@", "https://auth.example.com@",
    "https://auth.example.com.", "https://auth.example.com:443@", "//auth.example.com\\@", "//[::1]@", "//%09/", "/%ff/", "/%",
    "/%zz/",
)  # fmt: skip
_SCHEMES = (
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "/javascript:alert(1)\n",
    "data:text/html,x",
    "vbscript:x",
    "about:blank",
    "file:///etc/passwd",
    "mailto:a@evil.example",
    "/a b",
    "/a?b c",
    "/a?b\\c",
    "/a?b#c",
    "/a?b\r\nSet-Cookie: x=y",
    "/a\r\nLocation: https://evil.example",
    "/a?b\x00",
    "/a?\u00e9",
    '/a?"><script>',
)

EVIL_REDIRECTS = [*(prefix + _HOST for prefix in _PREFIXES), *_SCHEMES]
