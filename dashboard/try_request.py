"""The page that tries a request: how it would be decided, without sending it."""

from django.http import HttpRequest, HttpResponse

from accounts.principal_lookup import find_principal_for
from core.errors import NotFound
from dashboard.access import AccessPage
from dashboard.access_forms import METHODS, TryRequestForm
from dashboard.remedies import Decided, Remedies, remedies
from rbac.explain import Explanation, explain
from rbac.permissions import Permission


class TryRequestPage(AccessPage):
    """Shows the decision on a request and the reason, without sending it. Everybody is allowed to ask about themselves."""

    template = "dashboard/access/try.html"
    tab = "try"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Return the form, and the decision if the form was sent."""
        others = self.principal.holds(Permission.POLICY_EXPLAIN)
        if not {*TryRequestForm.base_fields} & {*request.GET}:
            return self.render(form=TryRequestForm(others=others), others=others, methods=METHODS)
        form = TryRequestForm(request.GET, others=others)
        explanation = links = None
        # A misspelled name of a caller must not be answered for the user who sent it.
        if unknown := sorted({*request.GET} - {*TryRequestForm.base_fields}):
            form.add_error(None, f"Unknown field: {', '.join(unknown)}. The fields are: {', '.join(form.fields)}.")
        if form.is_valid():
            values = dict(form.cleaned_data)
            # A name in the URL is looked up even where the form has no such field: the request is rejected, not answered for
            # the user who sent it.
            caller = values.pop("who", "") or request.GET.get("who", "").strip()
            try:
                explanation = explain(*find_principal_for(actor=self.principal, name=caller), **values)
                links = self._remedies(explanation, **values)
            except NotFound as error:
                form.add_error("who", error.message)
        return self.render(
            form=form,
            others=others,
            methods=METHODS,
            explanation=explanation,
            remedies=links,
            values=form.cleaned_data,
            reads_routes=self.principal.holds(Permission.ROUTES_READ),
        )

    def _remedies(self, explanation: Explanation, *, method: str, host: str, path: str) -> Remedies:
        """Return the links of the decision."""
        caller = explanation.principal
        decided = Decided(
            kind=caller.kind,
            uid=caller.uid,
            role=caller.role,
            method=method,
            host=host,
            path=path,
            needed=explanation.needed or "",
            rule=explanation.rule,
            allowed=explanation.allowed,
        )
        return remedies(self.principal, decided, explanation.roles, back=self.request.get_full_path())
