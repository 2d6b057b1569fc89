from dataclasses import asdict
from typing import Any

from doctor import examine
from doctor.finding import Severity
from ops import base


class Command(base.Command):
    help = "Say what is unsafe or missing in the running configuration. Ends with 1 when there is an error, 0 otherwise."
    examples = ("doctor", "doctor --json")
    requires_system_checks: list[str] = []

    def act(self, **_: Any) -> None:
        found = examine.examine()
        if self.as_json:
            self.print_json([asdict(each) for each in found])
        elif found:
            rows = [(each.severity, each.code, f"{each.what} {each.todo}") for each in found]
            self.print_table(["SEVERITY", "CODE", "WHAT, AND WHAT TO DO"], rows)
        else:
            self.say("Nothing to say: all is well.")
        self.end(base.Exit.REFUSED if any(each.severity is Severity.ERROR for each in found) else base.Exit.DONE)
