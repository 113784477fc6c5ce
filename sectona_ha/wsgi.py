import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sectona_ha.settings")
application = get_wsgi_application()

from replication.stores.applications import start_web_heartbeat  # noqa: E402 - after Django is set up

# A server of the console imports this module; a management command does not.
start_web_heartbeat()
