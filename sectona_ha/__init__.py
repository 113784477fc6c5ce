"""The Django project: settings, urls, admin site, system checks. No models, no business rules."""
