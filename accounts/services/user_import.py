"""Import users from CSV: `plan_import` finds out what each row would do, and `apply_plan` does it for all rows or for none."""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction

from accounts.principal_lookup import require_unchanged
from accounts.services import upstream
from accounts.services.user_csv import UserRow, read_rows
from accounts.services.user_import_report import ImportReport, RowAction, RowChange
from accounts.services.user_import_rules import ImportDecision, Rules, check_password, refused
from accounts.services.user_import_state import ImportState, read_state
from core.agreement import asks_first
from core.errors import Conflict
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import lock_policy, require

_ATTEMPTS: Final = 5

Progress = Callable[[int, int], None]
Conclude = Callable[[ImportReport], None]
Step = tuple[int, int]  # how many steps of how many are done


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """The readable rows of a file, and the report of what they would do to users."""

    rows: tuple[UserRow, ...]
    update: bool
    report: ImportReport
    steps: int  # to plan and apply all rows
    state: ImportState
    decision: ImportDecision


def import_users(
    *, actor: Principal, text: str, dry_run: bool = False, update: bool = False, progress: Progress | None = None
) -> ImportReport:
    """Plan the import of a CSV text and, unless it is a `dry_run` or a row has an error, apply it. Returns the report.

    The first line names the columns, in any order and case: username and, optionally, password, role, email, display_name,
    sign_in and active (true or false). The other columns of an export (created_at, last_seen_at) are ignored; for exports of
    identity providers see `user_csv_columns`. A new user without a role gets the least one (`least_role`). An empty role,
    password, sign_in or active counts as missing; an empty email or display_name is stored as empty. An existing user is an
    error; with `update`, the user gets the values of the other columns, but never a password. Each row is planned on its own,
    so a row that takes the role of the last admin is an error even if a row before it makes another admin. `progress` is
    called with the number of steps done and of all steps. Raises Forbidden, and Invalid for an unreadable file.
    """
    plan = plan_import(actor=actor, text=text, update=update, progress=progress)
    if dry_run:
        return plan.report
    return run_plan(actor=actor, plan=plan, progress=progress)


def run_plan(
    *, actor: Principal, plan: ImportPlan, progress: Progress | None, conclude: Conclude = lambda _: None
) -> ImportReport:
    """Do what `apply_plan` does, with `progress` for each step, and return the report."""
    steps = apply_plan(actor=actor, plan=plan, conclude=conclude)
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            report: ImportReport = end.value
            return report
        if progress is not None:
            progress(*step)


def plan_import(*, actor: Principal, text: str, update: bool = False, progress: Progress | None = None) -> ImportPlan:
    """Return what each row of a CSV text would do. Changes nothing. Raises Forbidden, and Invalid for an unreadable file."""
    require(actor, Permission.USERS_WRITE)
    if update:
        require(actor, Permission.USERS_READ)  # the plan shows the values before the change
    file = read_rows(text)
    rows = file.rows
    steps = steps_of(rows)
    state = read_state(rows)
    decide = Rules(actor, state, update=update).decide
    decision = decide(rows) if progress is None else decide(rows, lambda number: progress(number, steps))
    changes = [RowChange(line, "", RowAction.REFUSED, {}, error=error) for line, error in file.errors.items()]
    changes += map(check_password, rows, decision.changes)
    return ImportPlan(rows, update, _report(changes, ignored=file.ignored), steps, state, decision)


def steps_of(rows: Iterable[UserRow]) -> int:
    """Return the number of steps of an import: plan and write each row, and hash each password."""
    return sum(3 if row.password else 2 for row in rows)


def apply_plan(*, actor: Principal, plan: ImportPlan, conclude: Conclude = lambda _: None) -> Generator[Step, None, ImportReport]:
    """Apply a plan without errors, all rows or none: yield each step, and return the report.

    A row that would now do something else than planned is an error. No lock is held while a step is yielded; closing the
    generator before the last step changes nobody. `conclude` is called with the report in the transaction that writes the rows,
    and what it raises rolls them back. Raises Forbidden, and Conflict if others keep changing the same users or roles.
    """
    if plan.report.errors:
        return plan.report
    done = len(plan.rows)
    # Hashing ten thousand passwords takes minutes, so it is done before the lock is taken.
    hashed: dict[int, str] = {}
    for row in plan.rows:
        if row.password:
            hashed[row.line] = make_password(row.password)
            done += 1
            yield done, plan.steps
    report = _write(actor, plan, hashed, conclude)
    if plan.rows and report.applied:
        yield plan.steps, plan.steps
    return report


@asks_first
def _write(actor: Principal, plan: ImportPlan, hashed: Mapping[int, str], conclude: Conclude) -> ImportReport:
    """Write all rows in one transaction, or none, and return the report. Raises Forbidden, Conflict.

    If what the rows depend on has changed since they were prepared, they are prepared again, without the lock.
    """
    require(actor, Permission.USERS_WRITE)
    state, decision = plan.state, plan.decision
    for attempt in range(1, _ATTEMPTS + 1):
        if attempt > 1:
            state = read_state(plan.rows)
            decision = Rules(actor, state, update=plan.update).decide(plan.rows)
        changes = _compared(plan, decision, _refused_by_upstream(actor, decision))
        if any(change.error for change in changes):
            _require_unchanged(actor)
            return _report(changes, ignored=plan.report.ignored_columns)
        report = _report(changes, applied=True, ignored=plan.report.ignored_columns)
        prepared = decision.prepared(hashed)
        try:
            with transaction.atomic():
                prepared.record()  # before the lock: PostgreSQL lets others work meanwhile
                lock_policy()
                _require_unchanged(actor)
                if state.is_current() and prepared.write():
                    conclude(report)
                    return report
                transaction.set_rollback(True)
        except IntegrityError:  # an id that was free, or a row that was written without the services
            if attempt == _ATTEMPTS:
                raise
    raise Conflict("These users or the roles are being changed all the time, so nothing was imported. Try again later.")


def _require_unchanged(actor: Principal) -> None:
    """Raise Forbidden if the actor has lost a permission since the import began: hashing takes minutes."""
    require_unchanged(actor, "Your permissions were reduced while the import was running, so nothing was imported.")


def _refused_by_upstream(actor: Principal, decision: ImportDecision) -> Mapping[int, str]:
    """Return by line what the upstream refuses. Raises NotAsked."""
    questions = decision.questions
    answers = upstream.refusals(actor, [change for changes in questions.values() for change in changes])
    refusals = {line: [answers[change].message for change in changes if change in answers] for line, changes in questions.items()}
    return {line: messages[0] for line, messages in refusals.items() if messages}


def _compared(plan: ImportPlan, decision: ImportDecision, by_upstream: Mapping[int, str]) -> list[RowChange]:
    """Return the changes, with an error for each that the upstream refuses, or that differs from the plan."""
    planned = {change.line: change for change in plan.report.changes}
    changes = []
    for row, change in zip(plan.rows, decision.changes, strict=True):
        if row.line in by_upstream:
            changes.append(refused(row, by_upstream[row.line]))
        elif not change.error and change != planned[row.line]:
            changes.append(refused(row, "This user was changed by somebody else after the preview. Preview the file again."))
        else:
            changes.append(change)
    return changes


def _report(changes: Iterable[RowChange], *, applied: bool = False, ignored: tuple[str, ...] = ()) -> ImportReport:
    return ImportReport(tuple(sorted(changes, key=lambda change: change.line)), applied, ignored)
