"""Reads a declaration: YAML that says which roles, routes, group roles and service accounts there should be.

What is doubtful is refused, and all of it at once, each with its line: an unknown or repeated key, an alias, a value of the
wrong kind, a name twice. Nothing here asks the database.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from django.core.exceptions import ValidationError
from django.db import models

from accounts.identifiers import BadName, canonical_account_name
from accounts.models import GroupRole, ServiceAccount
from core.errors import Invalid, ServiceError
from rbac import packs
from rbac.models import Role, Route
from rbac.packs import RouteSpec, read_route

MAX_TEXT: Final = 1024 * 1024
MAX_DEPTH: Final = 10  # four are in use; the YAML composer recurses, and this is far below where Python stops it
SECTIONS: Final = ("roles", "routes", "group_roles", "service_accounts")
_TAG: Final = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"-?[0-9]{1,9}\Z")


@dataclass(frozen=True, slots=True)
class Item:
    """One declared role, group role or service account: its name, its line, and the values that it mentions."""

    name: str
    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Declaration:
    """What there should be. A section that is None is not spoken of; an empty one says that there should be nothing."""

    roles: tuple[Item, ...] | None = None
    routes: tuple[RouteSpec, ...] | None = None
    routes_source: str = "file"
    routes_line: int = 0
    group_roles: tuple[Item, ...] | None = None
    service_accounts: tuple[Item, ...] | None = None


def read(text: str) -> Declaration:
    """Return what the text declares. Raises Invalid with everything that is wrong with it, a line each."""
    reader = _Reader()
    declaration = reader.declaration(_compose(text))
    if reader.problems:
        problems = [f"line {line}: {message}" for line, message in sorted(reader.problems)]
        raise Invalid("\n".join(problems), fields={"detail": problems})
    return declaration


def _compose(text: str) -> yaml.Node | None:
    """Return the tree of the one YAML document. Raises Invalid for no YAML, aliases, and what is too large or too deep."""
    if len(text) > MAX_TEXT:
        raise Invalid(f"The file is longer than {MAX_TEXT} characters.")
    try:
        _refuse_tricks(text)
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise Invalid(f"{where}This is not YAML: {error.problem or error.context}.") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two for escapes such as "\UFFFFFFFF"
        raise Invalid(f"This is not YAML: {(str(error).splitlines() or [''])[0]}.") from None


def _refuse_tricks(text: str) -> None:
    """Raise Invalid for an alias, which can make a small file a huge one, and for deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise Invalid(f"{_place(event)}aliases (*{event.anchor}) are not read; write the value out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise Invalid(f"{_place(event)}this is nested too deeply.")


def _place(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}: " if event.start_mark else ""


class _Mapping(dict[str, Any]):
    """A plain mapping that knows the lines of its keys."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


class _Reader:
    """Turns nodes into values, and collects what is wrong instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[tuple[int, str]] = []

    def wrong(self, line: int, message: str) -> None:
        self.problems.append((line, message))

    def declaration(self, root: yaml.Node | None) -> Declaration:
        """Return the declaration, as far as it can be read."""
        if not isinstance(root, yaml.MappingNode):
            self.wrong(1 if root is None else _line(root), f"a declaration is a mapping with some of: {', '.join(SECTIONS)}.")
            return Declaration()
        sections: dict[str, yaml.Node] = {}
        for key, node in root.value:
            name = self.key(key, sections)
            if name is not None and name not in SECTIONS:
                self.wrong(_line(key), f"unknown key {name!r}; known are {', '.join(SECTIONS)}.")
            elif name is not None:
                sections[name] = node
        routes, source, line = self.routes(sections.get("routes"))
        return Declaration(
            roles=self.items(sections.get("roles"), "role", "name", _ROLE, _check_role),
            routes=routes,
            routes_source=source,
            routes_line=line,
            group_roles=self.items(sections.get("group_roles"), "group role", "group", _GROUP_ROLE, _check_group_role),
            service_accounts=self.items(
                sections.get("service_accounts"), "service account", "name", _SERVICE_ACCOUNT, _check_service_account
            ),
        )

    def items(
        self,
        section: yaml.Node | None,
        what: str,
        naming: str,
        kinds: Mapping[str, tuple[type, ...]],
        check: Callable[[str, dict[str, Any]], str],
    ) -> tuple[Item, ...] | None:
        """Return the items of one section; `kinds` are the keys besides `naming`, and `check` returns the canonical name."""
        if section is None:
            return None
        found: dict[str, Item] = {}
        for row in self.rows(section, what):
            before = len(self.problems)
            name = self.fields(row, what, naming, kinds)
            if len(self.problems) > before:
                continue
            values = {key: value for key, value in row.items() if key != naming}
            try:
                name = check(name, values)
            except (ValidationError, BadName) as error:
                self.wrong(row.line, f"{what} {name!r}: {_sentence(error)}")
                continue
            if name in found:
                self.wrong(row.line, f"{what} {name!r} is declared already, on line {found[name].line}.")
            found.setdefault(name, Item(name, row.line, values))
        return tuple(found.values())

    def fields(self, row: _Mapping, what: str, naming: str, kinds: Mapping[str, tuple[type, ...]]) -> str:
        """Return the item's name; note unknown keys and values of the wrong kind."""
        for key, value in row.items():
            if key != naming and key not in kinds:
                self.wrong(row.lines[key], f"unknown key {key!r} of a {what}; known are {', '.join([naming, *kinds])}.")
            elif key in kinds and type(value) not in kinds[key]:
                self.wrong(row.lines[key], f"{key} must be {_named(kinds[key])}.")
        name = row.get(naming)
        if not isinstance(name, str) or not name:
            self.wrong(row.lines.get(naming, row.line), f"a {what} needs a {naming}, which is text.")
            return ""
        return name

    def routes(self, section: yaml.Node | None) -> tuple[tuple[RouteSpec, ...] | None, str, int]:
        """Return the routes, where they come from, and their line."""
        if section is None:
            return None, "", 0
        line = _line(section)
        if isinstance(section, yaml.MappingNode):
            row = self.value(section)
            if set(row) != {"pack"} or not isinstance(row["pack"], str):
                self.wrong(line, "routes is a list of routes, or pack: NAME.")
                return None, "", line
            try:
                return packs.load(row["pack"]).routes, f"pack {row['pack']}", line
            except ServiceError as error:
                self.wrong(line, error.message)
                return None, "", line
        specs = []
        for row in self.rows(section, "route"):
            before = len(self.problems)
            try:
                spec = read_route(row, "route")
                _check_route(spec)
            except Invalid as error:
                self.wrong(row.line, error.message)
            except ValidationError as error:
                self.wrong(row.line, f"route: {_sentence(error)}")
            else:
                if len(self.problems) == before:
                    specs.append(spec)
        return tuple(specs), "file", line

    def rows(self, section: yaml.Node, what: str) -> list[_Mapping]:
        """Return the mappings of a section that is a list of them."""
        if not isinstance(section, yaml.SequenceNode):
            self.wrong(_line(section), f"this must be a list of {what}s; write [] for none.")
            return []
        found = []
        for node in section.value:
            value = self.value(node)
            if isinstance(value, _Mapping):
                found.append(value)
            else:
                self.wrong(_line(node), f"a {what} is a mapping.")
        return found

    def key(self, node: yaml.Node, known: Mapping[str, object]) -> str | None:
        """Return the key of a mapping, or None, with a note, for one that is no text or repeated."""
        if not isinstance(node, yaml.ScalarNode) or node.tag != f"{_TAG}str":
            self.wrong(_line(node), "a key must be text.")
            return None
        if node.value in known:
            self.wrong(_line(node), f"the key {node.value!r} is repeated.")
            return None
        return str(node.value)

    def value(self, node: yaml.Node) -> Any:
        """Return the plain value of a node: text, whole number, true or false, None, list or mapping."""
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child) for child in node.value]
        if isinstance(node, yaml.MappingNode):
            mapping = _Mapping(_line(node))
            for key, child in node.value:
                name = self.key(key, mapping)
                value = self.value(child)
                if name is not None:
                    mapping[name], mapping.lines[name] = value, _line(key)
            return mapping
        return self.scalar(node)

    def scalar(self, node: yaml.Node) -> str | int | bool | None:
        """Return a single value; note one that is none of ours, and text that would not stay on its line."""
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "str" if text.isprintable():
                return text
            case "bool" if text.lower() in yaml.SafeLoader.bool_values:
                return bool(yaml.SafeLoader.bool_values[text.lower()])
            case "int" if _INTEGER.match(text):
                return int(text)
            case "null":
                return None
        self.wrong(_line(node), "a value is one line of text, a whole number, or true or false; put quotes around other text.")
        return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


_NAMES: Final = {str: "text", bool: "true or false", int: "a whole number", list: "a list", type(None): "null"}
_ROLE: Final[Mapping[str, tuple[type, ...]]] = {"permissions": (list,), "description": (str,)}
_GROUP_ROLE: Final[Mapping[str, tuple[type, ...]]] = {"role": (str,), "priority": (int,)}
_SERVICE_ACCOUNT: Final[Mapping[str, tuple[type, ...]]] = {
    "role": (str,),
    "description": (str,),
    "owner": (str, type(None)),
    "active": (bool,),
}


def _named(kinds: tuple[type, ...]) -> str:
    return " or ".join(_NAMES[kind] for kind in kinds)


def _check_role(name: str, values: dict[str, Any]) -> str:
    """Return the name of a role whose values are good, with its permissions in order. Raises ValidationError."""
    _clean(Role(name=name, **values))
    if "permissions" in values:
        values["permissions"] = sorted(set(values["permissions"]))
    return name


def _check_group_role(name: str, values: dict[str, Any]) -> str:
    if "role" not in values:
        raise ValidationError("role is missing.")
    _clean(GroupRole(group=name, priority=values.get("priority", 100)), "role")
    return name


def _check_service_account(name: str, values: dict[str, Any]) -> str:
    _clean(ServiceAccount(description=values.get("description", "")), "name", "uid", "created_by", "owner", "role")
    if values.get("owner"):
        values["owner"] = values["owner"].lower()
    return canonical_account_name(name)


def _check_route(spec: RouteSpec) -> None:
    _clean(
        Route(
            position=1,
            host=spec.host,
            path=spec.path,
            methods=list(spec.methods),
            permission=spec.permission,
            note=spec.note,
        )
    )


def _clean(row: models.Model, *exclude: str) -> None:
    """Raise ValidationError unless the row's own fields are good; nothing is asked of the database."""
    row.clean_fields(exclude=set(exclude))


def _sentence(error: ValidationError | BadName) -> str:
    if isinstance(error, BadName):
        return str(error)
    if hasattr(error, "error_dict"):
        return " ".join(f"{name}: {text}" for name, texts in error.message_dict.items() for text in texts)
    return " ".join(error.messages)
