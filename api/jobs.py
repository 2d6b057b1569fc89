"""Jobs: work that goes on after the response, and the headers of the requests that start one."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Job, JobState
from accounts.services import jobs
from api.base import ApiViewSet, location
from api.permissions import Need
from api.schema import PROBLEM_REF
from api.user_serializers import UserImportResultSerializer
from core.errors import Invalid
from rbac.permissions import Permission

KEY_HEADER: Final = "Idempotency-Key"
MAX_KEY: Final = 255
# A string of RFC 9651, as the draft says. Many clients send it without the quotes.
_KEY: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"|([!#-\[\]-~]+)')
_RESPOND_ASYNC: Final = "respond-async"

IDEMPOTENCY_KEY: Final = OpenApiParameter(
    KEY_HEADER,
    str,
    OpenApiParameter.HEADER,
    description="A unique value of at most 255 characters, such as a UUID, that makes a retry harmless: a request with the same "
    "key and the same content returns the job that the first one started. Other content is an error (422).",
)
PREFER: Final = OpenApiParameter(
    "Prefer", str, OpenApiParameter.HEADER, description="`respond-async` (RFC 7240) starts a job for a small file, too."
)
JOB_LOCATION: Final = OpenApiParameter(
    "Location", str, OpenApiParameter.HEADER, response=[202], description="The path of the job."
)


class JobSerializer(serializers.ModelSerializer[Job]):
    """A job."""

    kind = serializers.CharField(help_text="What the job does: `user-import`.")
    state = serializers.ChoiceField(choices=JobState.choices, help_text="How far the job is.")
    created_by = serializers.CharField(source="actor_name", help_text="The name of the caller who started the job.")
    result = UserImportResultSerializer(allow_null=True, help_text="What a job that is done has changed.")
    problem = serializers.SerializerMethodField(help_text="Why a job failed. A job that failed has changed nothing.")

    class Meta:
        model = Job
        fields = ("id", "kind", "state", "created_by", "steps", "steps_done", "created_at", "ended_at", "result", "problem")
        read_only_fields = fields
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "id": {"help_text": "The id of the job."},
            "steps": {"help_text": "How many steps the job has, as far as it is known."},
            "steps_done": {"help_text": "How many of them are done."},
            "created_at": {"help_text": "When the job was started."},
            "ended_at": {"help_text": "When the job ended; null: it has not ended."},
        }

    @staticmethod
    @extend_schema_field({"allOf": [PROBLEM_REF], "nullable": True})
    def get_problem(job: Job) -> dict[str, Any] | None:
        """Return the problem details (RFC 9457)."""
        problem: dict[str, Any] | None = job.problem
        return problem


class JobViewSet(ApiViewSet):
    """Jobs, by id. A caller finds the jobs that it started; an admin finds all."""

    needs: ClassVar[dict[str, Need]] = {"retrieve": Permission.USERS_WRITE}  # every job is an import of users
    queryset = Job.objects.all()
    serializer_class = JobSerializer
    lookup_field = "id"
    lookup_url_kwarg = "job"
    lookup_value_regex = "[0-9a-f]{16}"
    path_descriptions = {"job": "The id of the job."}

    @extend_schema(
        summary="Get a job",
        description="Returns a job with its progress and, after its end, its result (`done`) or its problem (`failed`). You find "
        "the jobs that you started; an admin finds all. `manage.py prune` deletes a job a week after its end.",
        responses=JobSerializer,
    )
    def retrieve(self, request: Request, job: str) -> Response:  # noqa: ARG002 - DRF's signature
        return Response(JobSerializer(jobs.find_job(actor=self.principal, job_id=job)).data)


def accepted(request: Request, job: Job) -> Response:
    """Return the 202 with the path of a job."""
    applied = {"Preference-Applied": _RESPOND_ASYNC} if prefers_async(request.headers) else {}
    return Response(JobSerializer(job).data, status=202, headers={**location("job-detail", job=job.pk), **applied})


def idempotency_key(headers: Mapping[str, str]) -> str:
    """Return the key of a request, or "" if it has none. Raises Invalid for a malformed one."""
    header = headers.get(KEY_HEADER)
    if header is None:
        return ""
    match = _KEY.fullmatch(header.strip())
    key = "" if match is None else re.sub(r"\\(.)", r"\1", match[1]) if match[1] else match[2]
    if not 0 < len(key) <= MAX_KEY:
        text = f'The key is a quoted text of 1 to {MAX_KEY} printable ASCII characters, such as "8e03978e-40d5-43dd-bc93".'
        raise Invalid(f"{KEY_HEADER}: {text}", fields={KEY_HEADER: [text]})
    return key


def prefers_async(headers: Mapping[str, str]) -> bool:
    """Return whether the request has the preference `respond-async` (RFC 7240)."""
    preferences = headers.get("Prefer", "").split(",")
    return any(preference.split(";")[0].strip().lower() == _RESPOND_ASYNC for preference in preferences)
