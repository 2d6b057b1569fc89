"""The path language: strict reading of a path, and patterns over whole segments."""

from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.paths import MAX_PATH, AmbiguousPath, split_path
from rbac.patterns import MAX_PATTERN, BadPattern, compile_pattern
from tests.examples import examples

READ = [
    ("/", ("",)),
    ("/a", ("a",)),
    ("/a/", ("a", "")),
    ("/a/b/c", ("a", "b", "c")),
    ("/A", ("A",)),
    ("/a%41", ("aA",)),
    ("/%61%6a", ("aj",)),
    ("/a%20b", ("a b",)),
    ("/a+b", ("a+b",)),
    ("/%C3%A9t%c3%a9", ("été",)),
    ("/%E2%82%AC", ("€",)),
    ("/...", ("...",)),
    ("/.a/a./.a.", (".a", "a.", ".a.")),
    ("/a:b@c,d=e&f$g!h*i(j)'k~l_m-n", ("a:b@c,d=e&f$g!h*i(j)'k~l_m-n",)),
    ("/*", ("*",)),
    ("/**", ("**",)),
    ("/" + "a" * (MAX_PATH - 1), ("a" * (MAX_PATH - 1),)),
]

REFUSED = [
    # none, or not in origin form
    "",
    "a",
    "*",
    "?a=b",
    "http://example.com/a",
    "example.com:443",
    "\\a",
    " /a",
    # a double slash, which a URL parser may take for a host
    "//",
    "//a",
    "/a//b",
    "/a//",
    "///",
    # dot segments, plain and encoded, in every mixture
    "/.",
    "/..",
    "/./a",
    "/../a",
    "/a/.",
    "/a/..",
    "/a/./b",
    "/a/../b",
    "/%2e",
    "/%2E%2E/a",
    "/.%2e/a",
    "/%2e./a",
    "/a/%2e%2e",
    "/a%2eb",
    "/a/%2e%2e%2fb",
    # escapes that another program may decode to structure
    "/a%2fb",
    "/a%2Fb",
    "/a%5cb",
    "/a%5Cb",
    "/a%00",
    "/a%00.html",
    "/a%3bb",
    "/a%3Bb",
    "/a%25",
    "/a%252fb",
    "/a%252e%252e/b",
    "/a%3f",
    "/a%3Fb=c",
    "/a%23",
    "/a%22",
    "/a%0a",
    "/a%0d%0aX",
    "/a%09",
    "/a%1f",
    "/a%7f",
    # characters that must not stand in a path
    "/a;b",
    "/a;jsessionid=1",
    "/..;/a",
    "/a\\b",
    "/a\\..\\b",
    "/a#b",
    "/#",
    "/a b",
    "/a\tb",
    "/a\nb",
    "/a\r\nb",
    "/a\x00",
    "/a\x7f",
    '/a"b',
    "/a<b",
    "/a>b",
    "/a|b",
    "/a^b",
    "/a`b",
    "/a{b}",
    "/a[b]",
    "/é",
    "/a\u2215b",
    "/\uff0e\uff0e/a",
    "/a\ud800",
    # broken escapes
    "/a%",
    "/a%2",
    "/a%zz",
    "/a%2g",
    "/%u002e",
    "/a%%41",
    "/a% 41",
    "/a%+1",
    # not UTF-8 once decoded, overlong forms among it
    "/a%ff",
    "/%c0%ae%c0%ae/a",
    "/%c0%af",
    "/%e0%80%af",
    "/%ed%a0%80",
    "/%80",
    "/%c3",
    # invisible characters
    "/a%c2%85",
    "/a%c2%a0",
    "/a%e2%80%8b",
    "/a%e2%80%ae",
    "/a%e2%80%a8",
    "/%ef%bb%bfa",
    # too long
    "/" + "a" * MAX_PATH,
]


@pytest.mark.parametrize(("raw", "segments"), READ, ids=lambda value: repr(value)[:40])
def test_a_plain_path_is_read_in_exactly_one_way(raw, segments):
    assert split_path(raw) == segments


@pytest.mark.parametrize("raw", REFUSED, ids=lambda raw: repr(raw)[:40])
def test_promise_23_a_path_that_two_programs_may_read_differently_is_refused(raw):
    with pytest.raises(AmbiguousPath) as raised:
        split_path(raw)
    assert len(raw) < 3 or raw not in str(raised.value), "the refusal does not repeat what was sent"


@pytest.mark.parametrize(
    "raw",
    [
        "/a?",
        "/a?b",
        "/a?/../admin",
        "/a?b=/c%2fd",
        "/a?b;c",
        "/a?b#c",
        "/a?b?c",
        "/a?\\",
        "/a?\u00e9",
        "/a?%",
        "/a?" + "b" * MAX_PATH,
    ],
    ids=lambda raw: repr(raw)[:30],
)
def test_promise_24_the_query_never_takes_part(raw):
    assert split_path(raw) == ("a",)


@pytest.mark.parametrize("raw", ["/admin#/public", "/admin%23/public", "/admin#?/public", "/admin%3f/public", "#/public"])
def test_promise_24_a_fragment_is_refused(raw):
    with pytest.raises(AmbiguousPath):
        split_path(raw)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("/", ["/"], ["/a", "/a/"]),
        ("/a", ["/a"], ["/", "/A", "/a/", "/a/b", "/b", "/aa"]),
        ("/a/", ["/a/"], ["/a", "/a/b"]),
        ("/*", ["/a", "/*", "/%61", "/..."], ["/", "/a/", "/a/b"]),
        ("/a/*/b", ["/a/x/b", "/a/*/b"], ["/a/b", "/a/x/y/b", "/a/x/b/", "/a/x"]),
        ("/a/*/", ["/a/x/"], ["/a/x", "/a/x/y"]),
        ("/**", ["/", "/a", "/a/", "/a/b/c"], []),
        ("/a/**", ["/a", "/a/", "/a/b", "/a/b/c/"], ["/", "/ab", "/A/b", "/b/a"]),
        ("/a/*/**", ["/a/x", "/a/x/", "/a/x/y"], ["/a", "/a/", "/b/x"]),
        ("/été", ["/%c3%a9t%c3%a9"], ["/ete"]),
        ("/a b", ["/a%20b"], ["/a+b"]),
        ("/...", ["/..."], ["/a"]),
    ],
)
def test_a_pattern_matches_whole_segments_and_both_ends(pattern, yes, no):
    compiled = compile_pattern(pattern)
    assert [path for path in yes if not compiled.matches(split_path(path))] == []
    assert [path for path in no if compiled.matches(split_path(path))] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "**",
        "//",
        "/a//b",
        "/a//",
        "//**",
        "/**/a",
        "/**/**",
        "/a*",
        "/*a",
        "/a**",
        "/***",
        "/.",
        "/..",
        "/a/../b",
        "/a/./**",
    ]
    + [f"/a{c}" for c in '%;?#\\"\n\t\x00\x7f\u200b\u00a0']
    + ["/a%2fb", "/" + "a" * MAX_PATTERN],
)
def test_what_is_no_pattern_is_refused_with_what_to_write(text):
    with pytest.raises(BadPattern):
        compile_pattern(text)


def test_a_pattern_of_the_greatest_length_is_accepted():
    assert compile_pattern("/" + "a" * (MAX_PATTERN - 1)).matches(("a" * (MAX_PATTERN - 1),))


def test_a_hostile_pattern_costs_no_more_than_its_length():
    compiled = compile_pattern("/*" * 100 + "/x/**")
    assert not compiled.matches(("a",) * 100 + ("y",) * 4_000)
    assert compiled.matches(("a",) * 100 + ("x",) * 4_000)


def reference(pattern, path):
    """Match by the sentence of the documentation: one segment after the other, recursively."""
    if pattern == ["**"]:
        return True
    if not pattern or not path:
        return not pattern and not path
    fits = path[0] != "" if pattern[0] == "*" else pattern[0] == path[0]
    return fits and reference(pattern[1:], path[1:])


SEGMENT = st.sampled_from(["a", "b", "ab", "A", "*", "é"])


@settings(deadline=None, max_examples=examples(500))
@given(
    pattern=st.lists(SEGMENT, max_size=5),
    end=st.sampled_from([[], ["**"], [""]]),
    path=st.lists(st.sampled_from(["a", "b", "ab", "A", "é"]), max_size=6),
    slash=st.booleans(),
)
def test_matching_agrees_with_a_naive_reference(pattern, end, path, slash):
    parts = [*pattern, *end] or [""]
    segments = [*path, ""] if slash or not path else path
    assert compile_pattern("/" + "/".join(parts)).matches(tuple(segments)) == reference(parts, segments)


RAW = st.one_of(
    st.text(max_size=40).map(lambda text: "/" + text),
    st.lists(
        st.sampled_from(["/", "a", ".", "..", "%2e", "%2f", "%41", "%c3%a9", ";", "\\", "%25", "?", "#", "%", "é", "%00"]),
        max_size=10,
    ).map(lambda parts: "/" + "".join(parts)),
    st.text(max_size=20),
)


@settings(deadline=None, max_examples=examples(500))
@given(RAW)
def test_promise_23_a_path_is_refused_or_every_reading_of_it_agrees(raw):
    try:
        segments = split_path(raw)
    except AmbiguousPath:
        return
    path = raw.partition("?")[0]
    assert segments
    assert not {".", ".."} & set(segments)
    assert all("/" not in segment and "\\" not in segment and ";" not in segment and "%" not in segment for segment in segments)
    assert "" not in segments[:-1]
    # decoding the whole first or piece by piece, once or twice, changes nothing
    decoded = unquote_to_bytes(path).decode()
    assert "/" + "/".join(segments) == decoded
    assert unquote_to_bytes(decoded.encode()).decode() == decoded
    assert split_path("/" + "/".join(quote(segment, safe="") for segment in segments)) == segments


@settings(deadline=None)
@given(st.one_of(st.text(max_size=30), st.text(alphabet="/*ab.%", max_size=12).map(lambda text: "/" + text)))
def test_a_pattern_is_refused_or_compiles_and_matches_without_raising(text):
    try:
        compiled = compile_pattern(text)
    except BadPattern:
        return
    assert compiled.matches(("a", "b")) in {True, False}
