"""Problems of webhooks."""

from __future__ import annotations

from services.http.errors import ServiceError


class TooManyWebhooks(ServiceError):
    """The user has reached the maximum number of webhooks."""

    status, name, title = 409, "too-many-webhooks", "Too many webhooks"
    advice = "Delete a webhook you no longer need, or change its address instead."


class WebhookDisabled(ServiceError):
    """The webhook receives no deliveries: its receiver was gone or failed for too long, or its
    owner disabled it. ``detail`` says which.
    """

    status, name, title = 409, "webhook-disabled", "The webhook is disabled"
    advice = 'Enable it with ``PATCH`` and ``{"enabled": true}``.'
