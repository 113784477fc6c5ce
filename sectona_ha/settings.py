"""Settings, read from the environment once; each secret also from a file named by NAME_FILE. Fails at start when one is missing.

Every variable has a heading in docs/reference/settings.md (a test checks that).
"""

import socket
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import environ
from csp.constants import NONCE, NONE, SELF

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.FileAwareEnv()

# State of everything that runs on this host: databases of the demo, sockets, keys. Never in version control.
VAR_DIR = Path(env.str("VAULT_HA_VAR", default=str(BASE_DIR / "var")))

DEBUG = env.bool("VAULT_HA_DEBUG", default=False)
SECRET_KEY = env.str("VAULT_HA_SECRET_KEY")
ALLOWED_HOSTS = env.list("VAULT_HA_ALLOWED_HOSTS", default=["127.0.0.1", "localhost"])
CSRF_TRUSTED_ORIGINS = env.list("VAULT_HA_TRUSTED_ORIGINS", default=[])
# Plain HTTP is only right on loopback: it turns off the Secure flag of cookies, HSTS and the redirect to HTTPS.
INSECURE_HTTP = env.bool("VAULT_HA_INSECURE_HTTP", default=False)

# The name of this controller host, as in High Availability → Application.
HOST_NAME = env.str("VAULT_HA_HOST_NAME", default=socket.gethostname())
# CA, certificate and key with which the workers prove themselves to agents. The web process has no use for them.
PKI_DIR = Path(env.str("VAULT_HA_PKI_DIR", default=str(VAR_DIR / "pki")))

INSTALLED_APPS = [
    "sectona_ha.apps.ConsoleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "django_rq",
    "csp",
    "auditlog",
    "axes",
    "nodes",
    "replication",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    # Pages, not files: those are compressed when they are collected. A list of 200 nodes shrinks from 500 kB to 20. Answers
    # get a random length and the CSRF token a new mask each time, so that the size tells nobody the token (BREACH).
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "sectona_ha.middleware.AuditMiddleware",
    # Last, as it asks for: turns a refused login into the page of sectona_ha/lockout.py.
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "sectona_ha.urls"
WSGI_APPLICATION = "sectona_ha.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ]
        },
    }
]


def mariadb_options() -> dict[str, Any]:
    return {
        # UTC: leases and holds are judged by NOW() of this session. A lock is waited for as long as in SQLite.
        "init_command": "SET sql_mode='STRICT_TRANS_TABLES', time_zone='+00:00', innodb_lock_wait_timeout=5",
        "isolation_level": "read committed",
        # Seconds. A server that has fallen silent holds no thread for ever; the service's own threads are less patient
        # (replication/stores/threads.py). A migration's slowest statement has to fit into the read time-out.
        "connect_timeout": 2,
        "read_timeout": 30,
        "write_timeout": 30,
    }


# SQLite for one controller host, MariaDB (mysql://…) for several.
DATABASES = {"default": env.db("VAULT_HA_DATABASE", default=f"sqlite:///{VAR_DIR / 'metadata.sqlite3'}")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # A lost commit of the published row would break the safety argument, hence synchronous=FULL.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 5,
    }
else:
    DATABASES["default"]["OPTIONS"] = {**DATABASES["default"].get("OPTIONS", {}), **mariadb_options()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


def _redis_url(url: str, password: str) -> str:
    """Put the password and a short connect time-out into the URL: django-rq takes nothing else beside one."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    credentials = f":{quote(password, safe='')}@" if password else parts.netloc.removesuffix(place)
    query = parts.query or "socket_connect_timeout=0.5"
    return f"{parts.scheme}://{credentials}{place}{parts.path}?{query}"


_REDIS = {
    "URL": _redis_url(
        env.str("VAULT_HA_REDIS_URL", default=f"unix://{VAR_DIR / 'redis.sock'}"),
        env.str("VAULT_HA_REDIS_PASSWORD", default=""),
    ),
    "SERIALIZER": "rq.serializers.JSONSerializer",
    "DEFAULT_TIMEOUT": 3600,
}
# ops: what somebody waits for; routine: what takes hours at night, comparisons and backups. Each with workers of its own.
RQ_QUEUES = {"ops": _REDIS, "routine": _REDIS, "service": _REDIS}
# The dashboard is registered by nodes/admin/work_queues/screen.py instead: the stock one is open to all staff.
RQ_SHOW_ADMIN_LINK = False
# What rqworker runs: a worker that says in High Availability → Application that it is there.
RQ = {"WORKER_CLASS": "replication.jobs.worker.OpsWorker"}

LANGUAGE_CODE = "en"
# Each in its own words: whoever looks for his language reads no other one.
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
LOCALE_PATHS = [BASE_DIR / "locale"]

STATIC_URL = "static/"
STATIC_ROOT = Path(env.str("VAULT_HA_STATIC_ROOT", default=str(VAR_DIR / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# The first refuses who has failed too often, the second checks passwords and permissions.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
# A username is locked for the address that failed, not everywhere: an attacker must not shut the administrator out.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = env.int("VAULT_HA_LOGIN_FAILURES", default=5)
AXES_COOLOFF_TIME = timedelta(minutes=env.int("VAULT_HA_LOGIN_LOCK_MINUTES", default=15))
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_LOCKOUT_CALLABLE = "sectona_ha.lockout.locked_out"
AXES_CLIENT_IP_CALLABLE = "sectona_ha.lockout.counted_address"
# The audit log has it all, with its own screen.
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = SECURE_SSL_REDIRECT = not INSECURE_HTTP
# Health checks come from beside the process, past the proxy that ends TLS.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 0 if INSECURE_HTTP else 31536000
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not INSECURE_HTTP
BEHIND_PROXY = env.bool("VAULT_HA_BEHIND_PROXY", default=False)
# How many proxies of ours a request passes: each appends one entry to X-Forwarded-For (sectona_ha/middleware.py).
PROXIES = max(1, env.int("VAULT_HA_PROXIES", default=1))
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SESSION_COOKIE_AGE = 12 * 3600
CSRF_FAILURE_VIEW = "sectona_ha.errors.csrf_failure"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

# Users and groups are written by django-auditlog itself, field by field; wishes say what they did (stores/audit.py).
AUDITLOG_INCLUDE_TRACKING_MODELS = (
    {
        "model": "auth.User",
        "exclude_fields": ["last_login"],
        "mask_fields": ["password"],
        "m2m_fields": ["groups", "user_permissions"],
    },
    {"model": "auth.Group", "m2m_fields": ["permissions"]},
)
# The stock mask leaves the second half readable.
AUDITLOG_MASK_CALLABLE = "replication.stores.audit.masked"

# Seconds that the Add Node form waits for the check of the new node by an ops worker.
PREFLIGHT_WAIT = 5

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    # Each login is an entry of the audit log; here only what was refused.
    "loggers": {"axes": {"level": "WARNING"}},
}
