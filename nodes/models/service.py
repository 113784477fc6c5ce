from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from nodes.choices import DesiredState
from replication.core import limits

SERVICE_NAME = "SystemHighAvailabilityService"
HOUSEKEEPING_NAME = "SystemHousekeepingService"
_MIN = limits.HELLO_INTERVAL_MIN.total_seconds()
_MAX = limits.HOUSEKEEPING_INTERVAL_MAX.total_seconds()
_RANGE = _("The trigger interval is a number of seconds.")


class AppService(models.Model):
    """A row of System Status → App Services. The wishes are read by the leader within one interval."""

    name = models.CharField(_("service"), max_length=80, unique=True)
    description = models.CharField(_("description"), max_length=300, blank=True)
    desired_state = models.CharField(max_length=10, choices=DesiredState, default=DesiredState.STOPPED)
    trigger_interval = models.FloatField(
        _("trigger interval"),
        default=limits.HELLO_INTERVAL.total_seconds(),
        validators=[MinValueValidator(_MIN, _RANGE), MaxValueValidator(_MAX, _RANGE)],
        help_text=_("Seconds between two passes; what is allowed depends on the service."),
    )
    # What else can be set of it, by name; what is missing has its default (nodes/forms.py validates).
    configuration = models.JSONField(_("configuration"), default=dict, blank=True)
    run_requested_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField(null=True, blank=True)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    # Written by the leader only. started_on is None while the service is stopped.
    started_on = models.DateTimeField(_("started on"), null=True, blank=True)
    last_completed_on = models.DateTimeField(_("last process completed on"), null=True, blank=True)

    class Meta:
        verbose_name = _("app service")
        verbose_name_plural = _("app services")
        ordering = ["name"]
        permissions = [
            ("start_stop_appservice", "Can start and stop services"),
            ("run_appservice", "Can run a service now"),
        ]
        constraints = [
            models.CheckConstraint(
                name="service_interval_in_range", condition=Q(trigger_interval__gte=_MIN, trigger_interval__lte=_MAX)
            ),
            models.CheckConstraint(name="service_state_known", condition=Q(desired_state__in=DesiredState.values)),
        ]

    def __str__(self) -> str:
        return self.name
