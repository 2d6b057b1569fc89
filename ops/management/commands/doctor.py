from typing import Any

from django.conf import settings

from doctor.checks import findings
from doctor.finding import Audience, Severity
from ops import base


class Command(base.Command):
    help = """Check the configuration and the installation, and list what is unsafe or missing.

The exit code is 1 if there is an error, and 0 otherwise."""
    examples = ("doctor", "doctor --json")
    requires_system_checks: list[str] = []

    def act(self, **_: Any) -> None:
        if settings.RUNNING_SETTINGS:
            self.say(f"make run is running. Its settings are checked: {', '.join(settings.RUNNING_SETTINGS)}.")
        found = findings(Audience.OPERATOR)
        if self.as_json:
            rows = [
                {"severity": finding.severity, "code": finding.code, "what": finding.text, "todo": finding.todo}
                for finding in found
            ]
            self.print_json({"version": settings.VERSION, "findings": rows})
        elif found:
            lines = [(finding.severity, finding.code, f"{finding.text} {finding.todo}") for finding in found]
            self.print_table(["SEVERITY", "CODE", "PROBLEM AND NEXT STEP"], lines)
        else:
            self.say("No problems found.")
        self.end(base.Exit.REFUSED if any(finding.severity is Severity.ERROR for finding in found) else base.Exit.DONE)
