"""Three ways to ask who is calling, each as its documentation shows it, in front of a view that does nothing else."""

import os

from django.urls import path
from knox.auth import TokenAuthentication as KnoxAuthentication
from rest_framework.authentication import TokenAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_api_key.permissions import HasAPIKey


class Nothing(APIView):
    """Answers 200 without content to whoever may ask."""

    def get(self, request: Request) -> Response:  # noqa: ARG002 - DRF's signature
        """Answer."""
        return Response()


VIEWS = {
    "drf": Nothing.as_view(authentication_classes=[TokenAuthentication], permission_classes=[IsAuthenticated]),
    "knox": Nothing.as_view(authentication_classes=[KnoxAuthentication], permission_classes=[IsAuthenticated]),
    "api-key": Nothing.as_view(permission_classes=[HasAPIKey]),
}
urlpatterns = [path("", VIEWS[os.environ["PEER"]])]
