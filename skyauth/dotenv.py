"""Reads a `.env` file strictly: each line is understood, or refused by its number and name. No message contains a value.

The launcher of `make run` reads the same file before Django is set up, so this module imports nothing of SkyAuth's own.
"""

import fcntl
import re
from pathlib import Path
from typing import Final

_MAX_NAME: Final = 40
# A name that may be printed. A part of a secret on a line of its own (base32, base64, hexadecimal) is hardly ever one.
_NAME = re.compile(r"[A-Z]+(?:_[A-Z0-9]+)*\Z")
_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Z][A-Z0-9_]*)=(.*)\Z", re.DOTALL)
_NEARLY = re.compile(r"(?:(?:export|set)[ \t]+)?([A-Z][A-Z0-9_]*)[ \t]*[=:]")
_QUOTED: Final = {"'": re.compile(r"'([^']*)'"), '"': re.compile(r'"((?:[^"\\]|\\.)*)"')}
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES: Final = {"n": "\n", '"': '"', "\\": "\\", "$": "$"}
_COMMENT = re.compile(r"[ \t]+#")
_EXPANSION = re.compile(r"\$[{(]")
_SECOND = re.compile(r"[ \t][A-Z][A-Z0-9_]*=")
_OTHER_QUOTES: Final = "`\u00b4\u00ab\u00bb\u2018\u2019\u201a\u201c\u201d\u201e"  # as word processors write them


class DotenvError(ValueError):
    """A `.env` file cannot be used. The message says where and why, and contains no value."""


def read(path: Path) -> dict[str, str]:
    """Return the values of a file by their names; none if there is no file. Raises DotenvError."""
    if not path.exists() and not path.is_symlink():
        return {}
    if (path / "pyvenv.cfg").is_file():
        return {}  # a virtual environment with this name
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DotenvError(f"{path.name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DotenvError(f"{path.name} is not UTF-8 text. Save it as UTF-8.") from None
    return parse(text, path.name)


def read_while_locked(path: Path) -> dict[str, str]:
    """Return the values of a file that another process has locked, and none of a file that nobody has. Raises DotenvError."""
    try:
        with path.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return parse(stream.read().decode("utf-8", "replace"), path.name)
    except OSError:
        pass  # there is no such file, or it is not ours
    return {}


def parse(text: str, file: str = ".env") -> dict[str, str]:
    """Return the values of the text of a `.env` file by their names. Raises DotenvError."""
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate((line.strip(" \t\r") for line in text.split("\n")), start=1):
        if not line or line.startswith("#"):
            continue
        match = _ASSIGNMENT.match(line)
        if match is None or len(match[1]) > _MAX_NAME or not _NAME.match(match[1]):
            raise DotenvError(f"{file}, line {number}: {_no_assignment(line)}")
        name, raw = match.groups()
        if name in values:
            raise DotenvError(f"{file}, line {number}: {name} is already set in line {lines[name]}. Remove one of the two lines.")
        try:
            values[name], lines[name] = _value(raw), number
        except ValueError as error:
            raise DotenvError(f"{file}, line {number}: the value of {name} {error}") from None
    return values


def _no_assignment(line: str) -> str:
    """Return what is wrong with a line that is no assignment, with its name if it certainly is one."""
    match = _NEARLY.match(line)
    if match is None or len(match[1]) > _MAX_NAME or not _NAME.match(match[1]):
        return "this is not NAME=value, with the name in capital letters."
    return f"{match[1]} is not set in the form NAME=value. Write {match[1]}=... with no space and no colon."


def _value(raw: str) -> str:
    """Return the value that a line assigns, without its quotes and its comment. Raises ValueError."""
    if any(not char.isprintable() and char != "\t" for char in raw):
        raise ValueError("contains an invisible character. Type the line again.")
    if raw[:1] in _QUOTED:
        return _quoted(raw)
    if raw[:1] in {" ", "\t"}:
        raise ValueError("begins with a space. Write NAME=value without spaces around the equals sign.")
    value = _COMMENT.split(raw, maxsplit=1)[0]
    if value.startswith("#"):
        raise ValueError("begins with #. Write the value in single quotes, or a comment on a line of its own.")
    if value[:1] and value[0] in _OTHER_QUOTES:
        raise ValueError("begins with a character that is not a plain quote. Use ' or \".")
    if value.endswith("\\"):
        raise ValueError("ends with a backslash. Write the whole value on one line, in single quotes if it contains a backslash.")
    if _SECOND.search(value):
        raise ValueError("is followed by another setting. Write one setting on each line.")
    return _unexpanded(value)


def _quoted(raw: str) -> str:
    """Return the value between the quotes with which it begins. Raises ValueError."""
    match = _QUOTED[raw[0]].match(raw)
    if match is None:
        raise ValueError("begins with a quote that is not closed in the same line.")
    rest = raw[match.end() :]
    if rest.strip() and not _COMMENT.match(rest):
        raise ValueError("continues after its closing quote.")
    if raw[0] == "'":
        return match[1]
    if unknown := {char for char in _ESCAPE.findall(match[1]) if char not in _ESCAPES}:
        raise ValueError(f"contains \\{min(unknown)} in double quotes. Write the value in single quotes.")
    return _ESCAPE.sub(lambda escape: _ESCAPES[escape[1]], _unexpanded(match[1]))


def _unexpanded(value: str) -> str:
    """Return the value, if no other program would put something else for a part of it. Raises ValueError."""
    if _EXPANSION.search(value):
        raise ValueError("contains ${ or $(, which SkyAuth does not replace. Write the value itself, or put it in single quotes.")
    return value
