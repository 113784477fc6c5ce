"""`vault-agent serve`: one agent per home, from the lock to the last connection. mariadbd outlives it unless told otherwise."""

import asyncio
import logging
import resource
import signal
from datetime import UTC, datetime

from replication import certificates
from replication.agent.config import AgentConfig, ConfigError
from replication.agent.control import ControlServer, PurgeRefused
from replication.agent.core import VaultAgent
from replication.agent.lock import locked
from replication.agent.purge import reason_against, remove_remains
from replication.agent.server import AgentServer, bind, tls_context

log = logging.getLogger("vault_agent")


def serve(config: AgentConfig, *, stop_database: bool) -> None:
    """Run until SIGTERM, SIGINT or a purge. Raises CannotStart or ConfigError with one sentence.

    stop_database: on the way out stop mariadbd too, instead of leaving it to the next agent.
    """
    with locked(config):
        config.prepare_directories()
        _raise_file_limit()
        purged = asyncio.run(_Program(config, stop_database).run())
        if purged:
            left = remove_remains(config)
            log.info("purged %s%s", config.hostname, f"; {left}" if left else "")


class _Program:
    def __init__(self, config: AgentConfig, stop_database: bool) -> None:
        self._config, self._stop_database = config, stop_database
        self._stopping = asyncio.Event()
        self._purged = False

    async def run(self) -> bool:
        """Returns whether the node was purged."""
        config = self._config
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        # Whatever can be refused is refused before mariadbd is touched.
        self._check_certificate()
        context = tls_context(config)
        bound = bind(config)
        try:
            self._agent = VaultAgent(config)
            self._server = AgentServer(self._agent, context)
            control = ControlServer(config, self._agent.report, self._purge)
            try:
                await self._agent.start()
                await self._server.start(bound)
                await control.start()
                log.info("%s (agent %s) serves https://%s", config.hostname, config.agent_id, _authority(config))
                await self._stopping.wait()
                if not self._purged:
                    log.info("stopping; mariadbd %s", "stops too" if self._stop_database else "goes on")
            finally:
                await self._server.stop()
                await control.stop()
                await self._agent.close(stop_database=self._stop_database)
        finally:
            bound.close()
        return self._purged

    async def _purge(self) -> None:
        """On behalf of `vault-agent purge`."""
        why_not = reason_against(self._agent.report().vault)
        if why_not:
            raise PurgeRefused(why_not)
        # No await between the look at the report and this: no command can slip in between that joins a vault.
        if not self._server.hold_commands("this node is being purged"):
            raise PurgeRefused("a command is under way on this node: try again when it is done")
        try:
            await self._agent.remove_data()
        except BaseException:
            self._server.hold_commands("")
            raise
        self._purged = True
        self._stopping.set()

    def _check_certificate(self) -> None:
        try:
            certificate = certificates.check_node(self._config.pki_dir, ip=self._config.ip)
        except certificates.CertificateError as error:
            raise ConfigError(str(error)) from error
        ends = certificates.expires(certificate)
        if ends <= datetime.now(UTC):
            # Not a reason to stay away: a primary must come back after a power cut, its clients need no certificate.
            log.warning("the certificate expired on %s: controllers will not talk to this agent", ends.date())


def _raise_file_limit() -> None:
    # Strangers may open connections; running out of descriptors must not stop us from starting mariadbd.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _authority(config: AgentConfig) -> str:
    return f"[{config.ip}]:{config.port}" if ":" in config.ip else f"{config.ip}:{config.port}"
