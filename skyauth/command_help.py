"""The help of `skyauth`: the commands in groups, with one line each. docs/commands.md has the same groups.

It imports nothing, so that the help is printed whatever is wrong with the installation. A test compares it with the commands.
"""

GROUPS = {
    "Users": {
        "list_users": "List users with their roles and last requests",
        "show_user": "Show a user, with service accounts and sessions",
        "create_user": "Create a user",
        "set_role": "Set the role of a user or a service account",
        "changepassword": "Set the password of a user",
        "disable_user": "Refuse a user from the next request",
        "enable_user": "Accept a disabled user again",
        "delete_user": "Delete a user",
        "deleted_users": "List deleted users, and block their names",
        "import_users": "Create or change users from a CSV file",
        "export_users": "Write all users as CSV",
    },
    "Sessions": {
        "list_sessions": "List the sessions of users",
        "end_session": "Sign a user out",
    },
    "Service accounts and tokens": {
        "list_service_accounts": "List service accounts with their owners and tokens",
        "show_service_account": "Show a service account and its tokens",
        "create_service_account": "Create a service account",
        "disable_service_account": "Refuse a service account from the next request",
        "enable_service_account": "Accept a disabled service account again",
        "delete_service_account": "Delete a service account and its tokens",
        "list_tokens": "List tokens with their state and last use",
        "create_token": "Create a token for a service account",
        "rotate_token": "Replace a token with a new one",
        "revoke_token": "Revoke tokens",
    },
    "Roles, groups and routes": {
        "list_roles": "List roles, and how many have each",
        "list_group_roles": "List which role each group gives",
        "list_routes": "List the route table",
        "load_pack": "Replace the route table with a policy pack",
        "explain": "Show whether a request would be allowed, and why",
        "apply": "Make roles, routes and more match a YAML file",
        "export": "Write such a YAML file",
    },
    "Audit": {
        "audit": "Show the audit log, filter it, or follow it",
    },
    "Run": {
        "bootstrap": "Migrate, load routes and create the first admin",
        "serve": "Start the server",
        "runserver": "Start the server, and restart it when code changes",
        "doctor": "Check the configuration and the installation",
        "migrate": "Apply the migrations of the database",
    },
    "Upkeep": {
        "prune": "Delete expired sessions and old audit entries",
        "backup": "Write a backup of the database",
        "restore": "Replace the database by a backup",
        "create_assertion_key": "Create a key for signed assertions",
        "reference": "Generate the reference documentation",
    },
    "SkyPilot": {
        "check_skypilot_users": "List users of a server who would change their name",
        "sync_roles": "Send all roles to the SkyPilot server again",
    },
}
# Django's own names for what SkyAuth does not have, and former names.
NOT_LISTED = frozenset({"createsuperuser", "tell_roles"})

_USAGE = """\
Usage: skyauth COMMAND [ARGUMENTS]
       skyauth COMMAND --help
       skyauth --version
"""
_DJANGO = """
Django's commands, such as check and showmigrations, work too. To list them:
skyauth help --commands
"""


def text() -> str:
    """Return the help, with no line longer than 80 characters."""
    width = max(len(name) for commands in GROUPS.values() for name in commands)
    lines = [
        line
        for title, commands in GROUPS.items()
        for line in ("", f"{title}:", *(f"  {name:{width}}  {about}" for name, about in commands.items()))
    ]
    return _USAGE + "\n".join(lines) + "\n" + _DJANGO
