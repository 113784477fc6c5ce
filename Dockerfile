# One image for the console, the service workers and the ops worker. Agents live on the vault hosts, not here.
# BASE: Debian 12 with or without Python, for instance debian:bookworm-slim; without a registry, see docs/reference/image.md.
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS build
ENV DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN apt-get update && apt-get install -y --no-install-recommends \
      ca-certificates gcc libc6-dev libmariadb-dev pkg-config python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /tmp/requirements.txt
# A package index of your own, or its certificate, comes in as the build secret "pip" and stays out of every layer.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    python3 -m venv /opt/vault-ha && \
    { [ ! -s /run/secrets/ca.pem ] || export PIP_CERT=/run/secrets/ca.pem; } && \
    /opt/vault-ha/bin/pip install --no-input -r /tmp/requirements.txt

FROM ${BASE}
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libmariadb3 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 vaultha \
    && useradd --system --uid 10001 --gid vaultha --home-dir /app --shell /usr/sbin/nologin vaultha \
    && install -d -o vaultha -g vaultha /var/lib/vault-ha
COPY --from=build /opt/vault-ha /opt/vault-ha
WORKDIR /app
COPY manage.py ./
COPY sectona_ha sectona_ha
COPY nodes nodes
COPY replication replication
COPY templates templates
COPY locale locale
COPY static static
# The help pages of the console; .dockerignore leaves the other docs out.
COPY docs docs
ENV PATH=/opt/vault-ha/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=sectona_ha.settings VAULT_HA_VAR=/var/lib/vault-ha VAULT_HA_STATIC_ROOT=/app/staticfiles
# The key is only needed because Django reads its settings; nothing signed with it remains.
RUN VAULT_HA_SECRET_KEY=build-time-only python manage.py collectstatic --noinput -v0
USER vaultha
VOLUME /var/lib/vault-ha
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import os, urllib.request as u; host = os.environ.get('VAULT_HA_ALLOWED_HOSTS', '127.0.0.1').split(',')[0]; u.urlopen(u.Request('http://127.0.0.1:8000/healthz', headers={'Host': host}), timeout=2)"]
CMD ["gunicorn", "sectona_ha.wsgi", "-k", "gthread", "-w", "2", "--threads", "8", "--no-control-socket", "-b", "0.0.0.0:8000"]
