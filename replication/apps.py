from django.apps import AppConfig


class ReplicationConfig(AppConfig):
    name = "replication"

    def ready(self) -> None:
        # Imported here: they need the models. After axes, which has by then decided whether a login is locked.
        from .stores import audit, logins

        audit.connect()
        logins.connect()
