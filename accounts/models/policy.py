"""The policy revision, and the roles that the SkyPilot server has."""

from django.db import models

from core.watched import Watched


class PolicyRevision(models.Model):
    """One row, which changes with all that decisions depend on: the number of changes, and a random value that is never repeated.

    Triggers write it, see `revision.triggers`.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    number = models.BigIntegerField(default=0, db_default=0)  # older versions insert the row without it
    value = models.CharField(max_length=32, db_column="mark")

    class Meta:
        db_table = "accounts_generation"  # the name in older versions
        constraints = (models.CheckConstraint(condition=models.Q(id=1), name="generation_is_one_row"),)

    def __str__(self) -> str:
        return self.value


class PolicyChange(models.Model):
    """What one of the latest changes of the policy revision concerned. Triggers write it and delete old rows.

    All rows of a number belong to one transaction. `previous` and `value` are the revision's values before and after it, so that
    a reader can prove that it knows every change since the value that it read last (`revision.epoch`).
    """

    pk = models.CompositePrimaryKey("number", "position")
    number = models.BigIntegerField()
    position = models.PositiveIntegerField()
    previous = models.CharField(max_length=32)
    value = models.CharField(max_length=32)
    kind = models.CharField(max_length=16)
    key = models.CharField(max_length=254)

    def __str__(self) -> str:
        return f"{self.number}: {self.kind} {self.key}".strip()


class SyncedRole(models.Model):
    """The role that a SkyPilot API server has for a user name, as SkyAuth sent it; "" while it is uncertain.

    `lease` belongs to the process that is sending the role. `integrations.skypilot.role_sync` is the only writer.
    """

    # Only a deletion changes the policy revision.
    watched = Watched(ignored_fields=frozenset({"role", "lease", "lease_since"}), kind="synced-role", key="name")

    server = models.CharField(max_length=500)
    name = models.CharField(max_length=254)
    role = models.CharField(max_length=16, blank=True, default="")
    lease = models.CharField(max_length=32, blank=True, default="", editable=False, db_column="turn")
    lease_since = models.DateTimeField(null=True, blank=True, editable=False, db_column="turn_since")

    class Meta:
        db_table = "accounts_toldrole"  # the name in older versions
        constraints = (
            models.UniqueConstraint(fields=("server", "name"), name="told_role_is_one_per_name"),
            models.CheckConstraint(
                condition=models.Q(lease="") | models.Q(role="", lease_since__isnull=False),
                name="told_role_is_uncertain_in_a_turn",
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} at {self.server}: {self.role or 'uncertain'}"
