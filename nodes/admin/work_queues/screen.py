"""Administration → Work queues: what RQ holds in Redis, for those with the permission django_rq.admin.

Our own pages in place of django-rq's: those are open to all staff, change jobs while they are looked at, and need inline
scripts. Nothing here is needed to keep a vault alive; it is where a job that failed is looked into.
"""

from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_rq.models import Dashboard
from redis.exceptions import RedisError
from rq.exceptions import InvalidJobOperation, NoSuchJobError

from nodes.admin import dialogs
from nodes.admin.live import Record
from replication.stores import audit

from . import contents as work_queues

STATE_WORDS: Final = {
    "queued": gettext_lazy("Waiting"),
    "started": gettext_lazy("Running"),
    "failed": gettext_lazy("Failed"),
    "finished": gettext_lazy("Finished"),
    "scheduled": gettext_lazy("Scheduled"),
    "deferred": gettext_lazy("Deferred"),
}
PERMISSION: Final = "django_rq.admin"


@admin.register(Dashboard)
class WorkQueues(Record):
    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="django_rq_dashboard_changelist"),
            path("queue/<str:name>/empty/", wrap(self.empty), name="django_rq_dashboard_empty"),
            path("queue/<str:name>/<str:state>/", wrap(self.jobs), name="django_rq_dashboard_jobs"),
            path("job/<str:job_id>/", wrap(self.job), name="django_rq_dashboard_job"),
            path("job/<str:job_id>/requeue/", wrap(self.requeue), name="django_rq_dashboard_requeue"),
            path("job/<str:job_id>/delete/", wrap(self.delete), name="django_rq_dashboard_delete"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(PERMISSION)

    has_module_permission = has_view_permission

    # --- looking

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self._need(request)
        try:
            found = {"queues": work_queues.queues_shown(), "workers": work_queues.workers_shown()}
        except (RedisError, OSError):
            found = {"no_answer": True}
        return self._page(request, "nodes/queues.html", title=_("Work queues"), states=STATE_WORDS, **found)

    def jobs(self, request: HttpRequest, name: str, state: str) -> HttpResponse:
        self._need(request)
        if state not in STATE_WORDS:
            raise Http404("there is no such state of jobs")
        start = _number(request.GET.get("from", ""))
        found: dict[str, Any] = {}
        try:
            self._queue(name)
            found["jobs"] = work_queues.jobs_shown(name, state, start)
            found["more"] = start + work_queues.PAGE if len(found["jobs"]) == work_queues.PAGE else None
        except (RedisError, OSError):
            found["no_answer"] = True
        return self._page(
            request, "nodes/queue_jobs.html", title=f"{name}: {STATE_WORDS[state]}", queue=name, state=state,
            word=STATE_WORDS[state], **found,
        )  # fmt: skip

    def job(self, request: HttpRequest, job_id: str) -> HttpResponse:
        self._need(request)
        try:
            job = self._job(job_id)
            found = {"job": work_queues.job_shown(job), "queue": job.origin, "failure": work_queues.failure_of(job)}
        except (RedisError, OSError):
            found = {"no_answer": True}
        return self._page(request, "nodes/queue_job.html", title=_("Job"), **found)

    # --- acting, by POST only

    def empty(self, request: HttpRequest, name: str) -> HttpResponse:
        text = _(
            "All jobs that wait in it are thrown away, not those that run. An operation whose job is gone waits until its"
            " time is over; then it has failed, and can be asked for again."
        )
        title = _("Empty the queue %(name)s?") % {"name": name}
        return self._act(request, title, text, lambda: self._empty(name))

    def requeue(self, request: HttpRequest, job_id: str) -> HttpResponse:
        text = _("It runs once more from the beginning, as soon as a worker is free.")
        return self._act(request, _("Queue this job again?"), text, lambda: self._requeue(job_id))

    def delete(self, request: HttpRequest, job_id: str) -> HttpResponse:
        text = _("It is removed from the queue together with its traceback. What it has done stays done.")
        return self._act(request, _("Delete this job?"), text, lambda: self._delete(job_id), dangerous=True)

    def _empty(self, name: str) -> str:
        self._queue(name)
        queue = work_queues.queue(name)
        before = queue.count
        queue.empty()
        _record(name, "work queue emptied", {"waiting jobs": (before, 0)})
        return _("%(name)s was emptied.") % {"name": name}

    def _requeue(self, job_id: str) -> str:
        job = self._job(job_id)
        before = work_queues.job_shown(job).status
        job.requeue()
        _record(job.id, "job queued again", {"status": (before, "queued")})
        return _("The job was queued again.")

    def _delete(self, job_id: str) -> str:
        job = self._job(job_id)
        before = work_queues.job_shown(job)
        job.delete()
        _record(job.id, "job deleted", {"status": (before.status, None), "function": (before.what, None)})
        return _("The job was deleted.")

    def _act(self, request: HttpRequest, title: str, text: str, act: Any, *, dangerous: bool = False) -> HttpResponse:
        self._need(request)
        back = reverse("admin:django_rq_dashboard_changelist")
        if request.method != "POST":
            return dialogs.show(
                request, self, "nodes/confirm.html", title=title, back=back, text=text, dangerous=dangerous
            )
        try:
            messages.success(request, act())
        except (RedisError, OSError):
            messages.error(request, _("Redis does not answer: nothing was changed."))
        except (NoSuchJobError, InvalidJobOperation):
            messages.error(request, _("Only a job that has failed can be queued again."))
        return dialogs.done(request, back)

    def _need(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied(PERMISSION)

    def _queue(self, name: str) -> None:
        if name not in work_queues.queue_names():
            raise Http404("there is no such queue")

    def _job(self, job_id: str) -> Any:
        job = work_queues.find_job(job_id)
        if job is None:
            raise Http404("there is no such job any more")
        return job

    def _page(self, request: HttpRequest, template: str, **context: Any) -> HttpResponse:
        response = TemplateResponse(request, template, {**self.admin_site.each_context(request), **context})
        response["Cache-Control"] = "no-store"
        return response


def _record(name: str, what: str, changes: dict[str, tuple[Any, Any]]) -> None:
    """There is no row for a queue: the entry is about the dashboard, under the queue's or the job's name."""
    audit.record(Dashboard(pk=0), what, changes, name=name)


def _number(text: str) -> int:
    """A position in a list that an address gives; nonsense is its beginning."""
    return min(int(text), 10**9) if text.isascii() and text.isdigit() else 0
