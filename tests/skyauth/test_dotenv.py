"""`.env`: each line is read as a shell and Docker Compose read it, or refused by number and name, without its value."""

import re
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from skyauth import dotenv
from skyauth.environment import Environment

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2-hunter2"

READ = [
    ("plain", "LOG_LEVEL=INFO", {"LOG_LEVEL": "INFO"}),
    ("two lines", "LOG_LEVEL=INFO\nDEBUG=true\n", {"LOG_LEVEL": "INFO", "DEBUG": "true"}),
    ("nothing", "", {}),
    ("a comment line", "  # LOG_LEVEL=INFO", {}),
    ("a byte order mark", "\ufeffLOG_LEVEL=INFO", {"LOG_LEVEL": "INFO"}),
    ("Windows line ends", "LOG_LEVEL=INFO\r\nDEBUG=true\r\n", {"LOG_LEVEL": "INFO", "DEBUG": "true"}),
    ("export", "export LOG_LEVEL=INFO", {"LOG_LEVEL": "INFO"}),
    ("an indented line", "\t LOG_LEVEL=INFO", {"LOG_LEVEL": "INFO"}),
    ("a space at the end", "LOG_LEVEL=INFO  ", {"LOG_LEVEL": "INFO"}),
    ("a comment after the value", "LOG_LEVEL=INFO   # or DEBUG", {"LOG_LEVEL": "INFO"}),
    ("a comment after a tab", "LOG_LEVEL=INFO\t# or DEBUG", {"LOG_LEVEL": "INFO"}),
    ("# inside a value", "SECRET_KEY=a#b", {"SECRET_KEY": "a#b"}),
    ("no value", "AUTH_STRING=", {"AUTH_STRING": ""}),
    ("= in a value", "SECRET_KEY=abc==", {"SECRET_KEY": "abc=="}),
    ("$ at the beginning", "SECRET_KEY=$abc", {"SECRET_KEY": "$abc"}),
    ("$ inside", "AUTH_STRING=a:$2y$05$x/.", {"AUTH_STRING": "a:$2y$05$x/."}),
    ("two words", "AUTH_STRING=a:$1 b:$2", {"AUTH_STRING": "a:$1 b:$2"}),
    ("single quotes", "SECRET_KEY='a # b\\n${X}'", {"SECRET_KEY": "a # b\\n${X}"}),
    ("double quotes", 'SECRET_KEY="a # b\\n\\"\\\\\\$"', {"SECRET_KEY": 'a # b\n"\\$'}),
    ("a comment after quotes", "SECRET_KEY='a' # b", {"SECRET_KEY": "a"}),
    ("a quote inside", "SECRET_KEY=a'b", {"SECRET_KEY": "a'b"}),
    ("not ASCII", "AUTH_JWT_ISSUER=https://ü.example", {"AUTH_JWT_ISSUER": "https://ü.example"}),
]


@pytest.mark.parametrize(("text", "values"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_a_line_is_read(tmp_path: Path, text: str, values: dict[str, str]) -> None:
    (tmp_path / ".env").write_bytes(text.encode())
    assert dotenv.read(tmp_path / ".env") == values


REFUSED = [
    ("spaces around =", f"SECRET_KEY = {SECRET}", "line 1: SECRET_KEY is not set in the form NAME=value."),
    ("a space before =", f"SECRET_KEY ={SECRET}", "line 1: SECRET_KEY is not set in the form NAME=value."),
    ("a space after =", f"SECRET_KEY= {SECRET}", "line 1: the value of SECRET_KEY begins with a space."),
    ("a colon", f"SECRET_KEY: {SECRET}", "line 1: SECRET_KEY is not set in the form NAME=value."),
    ("the command of Windows", f"set SECRET_KEY={SECRET}", "line 1: SECRET_KEY is not set in the form NAME=value."),
    ("the variable of PowerShell", f"$env:SECRET_KEY='{SECRET}'", "line 1: this is not NAME=value"),
    ("a list of Compose", f"- SECRET_KEY={SECRET}", "line 1: this is not NAME=value"),
    ("JSON", f'"SECRET_KEY": "{SECRET}"', "line 1: this is not NAME=value"),
    ("a section of systemd", "[Service]", "line 1: this is not NAME=value"),
    ("a value alone", SECRET, "line 1: this is not NAME=value"),
    ("the rest of a secret, base64", f"DEBUG=1\n{SECRET.replace('-', '')}=", "line 2: this is not NAME=value"),
    ("the rest of a secret, base32", "JBSWY3DPEHPK3PXP=", "line 1: this is not NAME=value"),
    ("a name in small letters", f"secret_key={SECRET}", "line 1: this is not NAME=value, with the name in capital letters."),
    ("a name set twice", f"DEBUG=1\nDEBUG={SECRET}", "line 2: DEBUG is already set in line 1."),
    ("a quote that is not closed", f'SECRET_KEY="{SECRET}', "begins with a quote that is not closed"),
    ("a value of two lines", f'AUTH_STRING="a:{SECRET}\nb:{SECRET}"', "begins with a quote that is not closed"),
    ("text after the quotes", f"SECRET_KEY='{SECRET}'x", "continues after its closing quote."),
    ("an unknown escape", f'DATA_DIR="C:\\data\\{SECRET}"', "contains \\d in double quotes."),
    ("quotes of a word processor", f"SECRET_KEY=\u201c{SECRET}\u201d", "begins with a character that is not a plain quote."),
    ("a comment only", f"SECRET_KEY=#{SECRET}", "the value of SECRET_KEY begins with #."),
    ("a continued line", f"AUTH_STRING=a:{SECRET} \\\nb:x", "ends with a backslash."),
    ("another variable", "DATABASE_URL=postgres://${USER}@db/x", "contains ${ or $("),
    ("another variable, quoted", 'DATABASE_URL="postgres://${USER}@db/x"', "contains ${ or $("),
    ("the output of a program", f"SECRET_KEY=$(echo {SECRET})", "contains ${ or $("),
    ("two settings in a line", f"AUTH_JWT_ISSUER={SECRET} AUTH_JWT_AUDIENCE={SECRET}", "is followed by another setting."),
    ("an invisible character", f"SECRET_KEY={SECRET}\u200b", "contains an invisible character."),
    ("a no-break space", f"SECRET_KEY={SECRET}\u00a0", "contains an invisible character."),
    ("a NUL", f"SECRET_KEY={SECRET}\x00", "contains an invisible character."),
]


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_promise_48_another_line_is_refused_without_its_value(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / ".env").write_bytes(text.encode())
    with pytest.raises(ImproperlyConfigured, match=f"^.env, .*{re.escape(message)}") as raised:
        Environment(tmp_path / ".env")
    assert "hunter2" not in str(raised.value)
    assert "JBSWY" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("LOG_LEVEL=INFO".encode("utf-16"))
    with pytest.raises(ImproperlyConfigured, match=r"\.env is not UTF-8 text"):
        Environment(tmp_path / ".env")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    for name in ("directory", "link"):
        with pytest.raises(ImproperlyConfigured, match=f"{name} cannot be read: "):
            Environment(tmp_path / name)


def test_a_virtual_environment_with_the_name_of_the_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    (tmp_path / ".env" / "pyvenv.cfg").touch()
    assert dotenv.read(tmp_path / ".env") == {}
    assert dotenv.read(tmp_path / "absent") == {}


def blocks() -> list[tuple[str, str]]:
    """Return the blocks of the documentation that only set variables, with their pages."""
    found = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            lines = [line for line in block.splitlines() if line and not line.startswith("#")]
            if lines and all(re.match(r"[A-Z_]+=", line) for line in lines):
                found.append((str(page.relative_to(ROOT)), block))
    return found


@pytest.mark.parametrize(("page", "block"), blocks())
def test_a_block_of_the_documentation_can_be_copied_into_the_file(page: str, block: str) -> None:
    values = dotenv.parse(block)
    assert values, page
    assert not [name for name, value in values.items() if "#" in value or value != value.strip()]


def test_the_example_file_can_be_uncommented() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    uncommented = re.sub(r"^#(?=[A-Z_]+=)", "", example, flags=re.MULTILINE)
    assert len(dotenv.parse(uncommented)) > 30
