"""AUTH_STRING as people write it: each odd form is read, or refused by its line."""

import pytest

from accounts.shared_credential import htpasswd

HASH = "$2b$10$" + "a" * 53
COMPOSE = HASH.replace("$", "$$")
READ = {
    "one line": f"team:{HASH}",
    "lines": f"team:{HASH}\nops:{HASH}\n",
    "spaces": f"team:{HASH} ops:{HASH}",
    "Windows lines": f"team:{HASH}\r\nops:{HASH}\r\n",
    "blank lines and blanks": f"\n  team:{HASH}  \n\n\tops:{HASH}\n",
    "a comment line": f"# made with htpasswd -nB\nteam:{HASH}",
    "a comment after a record": f"team:{HASH} # until May\nops:{HASH}",
    "a third field": f"team:{HASH}:until May\nops:{HASH}",
    "a third field without words": f"team:{HASH}: ops:{HASH}",
    "dollars of a compose file": f"team:{COMPOSE}",
}


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_an_odd_form_is_read(text):
    lines = htpasswd(text)
    assert set(lines.users()) == ({"team", "ops"} if "ops:" in text else {"team"})
    assert {lines.get_hash(name) for name in lines.users()} == {HASH.encode()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"team:{HASH}\nhunter2", "line 2 has no name and hash"),
        (f":{HASH}", "line 1 has no name and hash"),
        (f"team:{HASH} hunter2", "line 1 has no name and hash"),
        (f"team:{HASH}\nteam:{HASH}", "line 2 has the name 'team' again, as line 1"),
    ],
)
def test_another_form_is_refused_by_its_line_and_without_its_text(text, message):
    with pytest.raises(ValueError, match=message) as raised:
        htpasswd(text)
    assert "hunter2" not in str(raised.value)
    assert HASH not in str(raised.value)
