"""`vault-agent init`: make an agent's home, or say what stands in the way. Nothing is left behind by a refusal."""

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from replication import certificates
from replication.agent.backup_files import BackupError, check_directory
from replication.agent.config import AgentConfig, ClientAccount, ConfigError
from replication.agent.engines import engine_of
from replication.agent.firewall import why_no_nftables

PKI_FILES = ("ca.pem", "cert.pem", "key.pem")


@dataclass(frozen=True, kw_only=True)
class InitRequest:
    """What the operator typed."""

    home: Path
    hostname: str
    ip: str
    port: int
    database_port: int
    pki: Path
    buffer_pool: str
    cut: str
    kernel_lease: bool = False
    mariadbd: str
    """Path of the server's program, which may be mysqld; "" looks for mariadbd in the usual places."""
    install_db: str
    client_database: str = ""
    client_user: str = ""
    client_password_file: Path | None = None
    backup_dir: Path | None = None


def init(request: InitRequest) -> AgentConfig:
    """Make the home (0700) with settings, identity and certificates. Raises ConfigError with one sentence."""
    home = Path(os.path.abspath(request.home))
    if request.cut not in ("auto", "none"):
        raise ConfigError(f'cut {request.cut!r} must be "auto" or "none"')
    server = _program(request.mariadbd, "mariadbd")
    engine = engine_of(server)
    config = AgentConfig(
        home=home,
        agent_id=secrets.token_hex(16),
        hostname=request.hostname,
        ip=request.ip,
        port=request.port,
        database_port=request.database_port,
        client=_client(request),
        buffer_pool=request.buffer_pool,
        cut="none" if request.cut == "none" else "auto",
        kernel_lease=request.kernel_lease,
        engine=engine,
        mariadbd=server,
        install_db=_program(request.install_db, "mariadb-install-db") if engine == "mariadb" else "",
        mariadb_binlog=_beside(server, "mysqlbinlog") if engine == "mysql" else AgentConfig.mariadb_binlog,
        backup_dir=os.path.abspath(request.backup_dir) if request.backup_dir is not None else "",
    )
    if config.kernel_lease and (why_not := why_no_nftables()):
        raise ConfigError(f"--kernel-lease is not possible here: {why_not}")
    try:
        certificate = certificates.check_node(request.pki, ip=config.ip)
    except certificates.CertificateError as error:
        raise ConfigError(str(error)) from error
    # Controllers and MariaDB know a node by its certificate; a name of its own there would confuse whoever reads logs.
    if f"/CN={config.hostname}/" not in certificates.subject_oneline(certificate):
        subject = certificates.subject_oneline(certificate)
        raise ConfigError(f"the certificate in {request.pki} is for {subject}, not for the host {config.hostname}")
    if config.backup_dir:
        try:
            check_directory(config.backups_dir)
        except BackupError as error:
            raise ConfigError(str(error)) from error
    _fill(config, request.pki)
    return config


def _fill(config: AgentConfig, pki: Path) -> None:
    home = config.home
    was_there = home.exists()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(home.iterdir()):
            what = "an agent" if config.config_file.exists() else "something"
            raise ConfigError(f"{home} holds {what} already: choose another home, or purge or empty this one")
    except OSError as error:
        raise ConfigError(f"the home {home} cannot be made: {error.strerror}") from error
    try:
        home.chmod(0o700)
        config.pki_dir.mkdir(mode=0o700)
        for name in PKI_FILES:
            shutil.copyfile(pki / name, config.pki_dir / name, follow_symlinks=True)
            (config.pki_dir / name).chmod(0o600)
        config.prepare_directories()
        config.save()  # last: a home without settings is no home
    except (OSError, ConfigError) as error:
        for leftover in home.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        if not was_there:
            home.rmdir()
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"the home {home} cannot be filled: {error.strerror or error}") from error


def _program(given: str, name: str) -> str:
    """Absolute path of a program. mariadbd is in /usr/sbin, which is not on every user's PATH."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"])
    found = shutil.which(given) if given else shutil.which(name, path=places)
    if found is None:
        where = f"{given} is not a program" if given else f"{name} is not installed on this host"
        raise ConfigError(f"{where}: install MariaDB's server package (on Debian: mariadb-server-core)")
    return os.path.abspath(found)


def _beside(server: str, name: str) -> str:
    """A program that comes with the server. Where it is not found, whatever needs it says so."""
    places = os.pathsep.join([os.path.dirname(server), os.environ.get("PATH", ""), "/usr/bin", "/usr/local/bin"])
    return os.path.abspath(shutil.which(name, path=places) or f"/usr/bin/{name}")


def _client(request: InitRequest) -> ClientAccount | None:
    given = [bool(request.client_database), bool(request.client_user), request.client_password_file is not None]
    if not any(given):
        return None
    if not all(given) or request.client_password_file is None:
        raise ConfigError("give --client-database, --client-user and --client-password-file together, or none of them")
    try:
        password = request.client_password_file.read_text().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"the password file {request.client_password_file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the password file {request.client_password_file} is not text") from error
    return ClientAccount(database=request.client_database, user=request.client_user, password=password)
