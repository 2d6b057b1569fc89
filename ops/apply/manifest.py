"""Reads a manifest: YAML with the roles, routes, group roles and service accounts that should exist.

Anything doubtful is an error: an unknown or repeated key, an alias, a value of the wrong type, a name that occurs twice. All
errors are reported together, each with its line. This module does not query the database.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from django.core.exceptions import ValidationError
from django.db import models

from accounts import group_names
from accounts.identifiers import BadName, canonical_account_name
from accounts.models import GroupRole, ServiceAccount
from core.errors import Invalid, ServiceError
from core.one_line import as_one_line
from rbac import packs
from rbac.models import Role, Route
from rbac.packs import RouteSpec, read_route

MAX_TEXT: Final = 1024 * 1024
MAX_DEPTH: Final = 10  # a manifest needs four; the YAML composer recurses, and Python stops it much later
SECTIONS: Final = ("roles", "routes", "group_roles", "service_accounts")
_TAG: Final = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"-?[0-9]{1,9}\Z")


@dataclass(frozen=True, slots=True)
class Item:
    """One role, group role or service account of the manifest: its name, its line, and the values that are given."""

    name: str
    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The sections of the file. None means that the file has no such section; an empty one means that nothing should exist."""

    roles: tuple[Item, ...] | None = None
    routes: tuple[RouteSpec, ...] | None = None
    routes_source: str = "file"
    routes_line: int = 0
    group_roles: tuple[Item, ...] | None = None
    service_accounts: tuple[Item, ...] | None = None


def read(text: str) -> Manifest:
    """Return the manifest. Raises Invalid with all errors, one on each line."""
    reader = _Reader()
    manifest = reader.manifest(_compose(text))
    if reader.errors:
        errors = [f"line {line}: {message}" for line, message in sorted(reader.errors)]
        raise Invalid("\n".join(errors), fields={"detail": errors})
    return manifest


def _compose(text: str) -> yaml.Node | None:
    """Return the tree of the single YAML document. Raises Invalid for other text, aliases, and too large or deep documents."""
    if len(text) > MAX_TEXT:
        raise Invalid(f"The file is longer than {MAX_TEXT} characters.")
    try:
        _refuse_expansion(text)
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise Invalid(f"{where}This is not YAML: {error.problem or error.context}.") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # escapes such as "\UFFFFFFFF" raise the last two
        raise Invalid(f"This is not YAML: {(str(error).splitlines() or [''])[0]}.") from None


def _refuse_expansion(text: str) -> None:
    """Raise Invalid for an alias, which can expand a small file to a huge one, and for deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise Invalid(f"{_line_prefix(event)}aliases (*{event.anchor}) are not supported; repeat the value.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise Invalid(f"{_line_prefix(event)}the nesting is too deep.")


def _line_prefix(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}: " if event.start_mark else ""


class _Mapping(dict[str, Any]):
    """A mapping with the line of each key."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


class _Reader:
    """Converts nodes to values, and collects all errors instead of raising the first."""

    def __init__(self) -> None:
        self.errors: list[tuple[int, str]] = []

    def error(self, line: int, message: str) -> None:
        self.errors.append((line, message))

    def manifest(self, root: yaml.Node | None) -> Manifest:
        """Return the manifest, as far as it can be read."""
        if not isinstance(root, yaml.MappingNode):
            self.error(
                1 if root is None else _line(root), f"the file must be a mapping with any of these keys: {', '.join(SECTIONS)}."
            )
            return Manifest()
        sections: dict[str, yaml.Node] = {}
        for key, node in root.value:
            name = self.key(key, sections)
            if name is not None and name not in SECTIONS:
                self.error(_line(key), f"unknown key {name!r}; the keys are {', '.join(SECTIONS)}.")
            elif name is not None:
                sections[name] = node
        routes, source, line = self.routes(sections.get("routes"))
        return Manifest(
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
        noun: str,
        name_key: str,
        kinds: Mapping[str, tuple[type, ...]],
        check: Callable[[str, dict[str, Any]], str],
    ) -> tuple[Item, ...] | None:
        """Return the items of a section. `kinds` are the keys besides `name_key`; `check` returns the canonical name."""
        if section is None:
            return None
        items: dict[str, Item] = {}
        for row in self.rows(section, noun):
            before = len(self.errors)
            name = self.fields(row, noun, name_key, kinds)
            if len(self.errors) > before:
                continue
            values = {key: value for key, value in row.items() if key != name_key}
            try:
                name = check(name, values)
            except (ValidationError, BadName) as error:
                self.error(row.line, f"{noun} {name!r}: {_sentence(error)}")
                continue
            if name in items:
                self.error(row.line, f"{noun} {name!r} is already on line {items[name].line}.")
            items.setdefault(name, Item(name, row.line, values))
        return tuple(items.values())

    def fields(self, row: _Mapping, noun: str, name_key: str, kinds: Mapping[str, tuple[type, ...]]) -> str:
        """Return the name of the item, "" if it has none; unknown keys and values of the wrong type are errors."""
        for key, value in row.items():
            if key != name_key and key not in kinds:
                self.error(row.lines[key], f"unknown key {key!r} of a {noun}; the keys are {', '.join([name_key, *kinds])}.")
            elif key in kinds and type(value) not in kinds[key]:
                self.error(row.lines[key], f"{key} must be {_describe(kinds[key])}.")
        name = row.get(name_key)
        if not isinstance(name, str) or not name:
            self.error(row.lines.get(name_key, row.line), f"a {noun} needs the key {name_key} with a text.")
            return ""
        return name

    def routes(self, section: yaml.Node | None) -> tuple[tuple[RouteSpec, ...] | None, str, int]:
        """Return the routes, their source for the audit log, and their line."""
        if section is None:
            return None, "", 0
        line = _line(section)
        if isinstance(section, yaml.MappingNode):
            row = self.value(section)
            if set(row) != {"pack"} or not isinstance(row["pack"], str):
                self.error(line, "routes must be a list of routes, or pack: NAME.")
                return None, "", line
            try:
                return packs.load(row["pack"]).routes, f"pack {row['pack']}", line
            except ServiceError as error:
                self.error(line, error.message)
                return None, "", line
        specs = []
        for row in self.rows(section, "route"):
            before = len(self.errors)
            try:
                spec = read_route(row, "route")
                _check_route(spec)
            except Invalid as error:
                self.error(row.line, error.message)
            except ValidationError as error:
                self.error(row.line, f"route: {_sentence(error)}")
            else:
                if len(self.errors) == before:
                    specs.append(spec)
        return tuple(specs), "file", line

    def rows(self, section: yaml.Node, noun: str) -> list[_Mapping]:
        """Return the mappings of a section that is a list of them."""
        if not isinstance(section, yaml.SequenceNode):
            self.error(_line(section), f"this must be a list of {noun}s; write [] for none.")
            return []
        rows = []
        for node in section.value:
            value = self.value(node)
            if isinstance(value, _Mapping):
                rows.append(value)
            else:
                self.error(_line(node), f"a {noun} must be a mapping.")
        return rows

    def key(self, node: yaml.Node, previous: Mapping[str, object]) -> str | None:
        """Return a key of a mapping; None for a key that is not text, or is repeated, which is an error."""
        if not isinstance(node, yaml.ScalarNode) or node.tag != f"{_TAG}str":
            self.error(_line(node), "a key must be text.")
            return None
        if node.value in previous:
            self.error(_line(node), f"the key {node.value!r} is repeated.")
            return None
        return str(node.value)

    def value(self, node: yaml.Node) -> Any:
        """Return the value of a node: str, int, bool, None, list or mapping."""
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
        """Return a scalar; other types, and text with control characters, are errors."""
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "str" if as_one_line(text) == text:
                return text
            case "bool" if text.lower() in yaml.SafeLoader.bool_values:
                return bool(yaml.SafeLoader.bool_values[text.lower()])
            case "int" if _INTEGER.match(text):
                return int(text)
            case "null":
                return None
        self.error(_line(node), "a value must be one line of text, a whole number, or true or false; put other text in quotes.")
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


def _describe(kinds: tuple[type, ...]) -> str:
    return " or ".join(_NAMES[kind] for kind in kinds)


def _check_role(name: str, values: dict[str, Any]) -> str:
    """Return the name of a valid role, and sort its permissions. Raises ValidationError."""
    _clean(Role(name=name, **values))
    if "permissions" in values:
        values["permissions"] = sorted(set(values["permissions"]))
    return name


def _check_group_role(name: str, values: dict[str, Any]) -> str:
    if "role" not in values:
        raise ValidationError("role is missing.")
    if problem := group_names.never_matches(name):
        raise ValidationError(problem)
    _clean(GroupRole(group=name, priority=values.get("priority", 100)), "role")
    return name


def _check_service_account(name: str, values: dict[str, Any]) -> str:
    _clean(ServiceAccount(description=values.get("description", "")), "name", "uid", "created_by", "owner", "role")
    if values.get("owner") == "":  # as of an empty variable in a template
        raise ValidationError("owner is empty. Write a username, or null for an account without an owner.")
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
    """Validate the fields of the row, without a query. Raises ValidationError."""
    row.clean_fields(exclude=set(exclude))


def _sentence(error: ValidationError | BadName) -> str:
    if isinstance(error, BadName):
        return str(error)
    if hasattr(error, "error_dict"):
        return " ".join(f"{name}: {text}" for name, texts in error.message_dict.items() for text in texts)
    return " ".join(error.messages)
