"""The command line `vault-agent`: arguments in, one of init, serve, status, restore, purge called, one line out when it cannot be done."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from replication.agent import config as settings
from replication.agent.backup_files import BackupError
from replication.agent.config import AgentConfig, ConfigError
from replication.agent.control import PurgeRefused
from replication.agent.errors import CannotStart
from replication.agent.init import InitRequest, init
from replication.agent.purge import purge
from replication.agent.restore import RestoreRefused, RestoreRequest, restore
from replication.agent.serve import serve
from replication.agent.state import StateDamaged
from replication.agent.status import status
from replication.core import limits
from replication.core.version import VERSION

REFUSED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 refused or failed with one line on stderr, 2 wrong arguments (argparse)."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "init":
            return _init(options)
        config = settings.load(options.home)
        if options.command == "serve":
            return _serve(config, stop_database=options.stop_database)
        if options.command == "status":
            print(status(config, as_json=options.json))
            return 0
        if options.command == "restore":
            return _restore(config, options)
        return _purge(config, options.yes_i_mean)
    except (ConfigError, CannotStart, PurgeRefused, RestoreRefused, BackupError) as error:
        return _refused(str(error))
    except StateDamaged as error:
        return _refused(f"{error}: start the agent, it will hold the node closed and say so in the console")
    except (OSError, ValueError) as error:
        return _refused(f"{options.command} failed: {error}")
    except KeyboardInterrupt:
        return _refused("interrupted")


def _init(options: argparse.Namespace) -> int:
    config = init(
        InitRequest(
            home=options.home,
            hostname=options.hostname,
            ip=options.ip,
            port=options.port,
            database_port=options.database_port,
            pki=options.pki,
            buffer_pool=options.buffer_pool,
            cut=options.cut,
            kernel_lease=options.kernel_lease,
            mariadbd=options.mariadbd,
            install_db=options.install_db,
            client_database=options.client_database,
            client_user=options.client_user,
            client_password_file=options.client_password_file,
            backup_dir=options.backup_dir,
        )
    )
    print(f"made {config.home}; start the agent with: vault-agent serve --home {config.home}")
    return 0


def _serve(config: AgentConfig, *, stop_database: bool) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    serve(config, stop_database=stop_database)
    return 0


def _purge(config: AgentConfig, given: str | None) -> int:
    left = purge(config, (lambda question: given) if given is not None else _ask)
    print(f"purged {config.hostname}{'; ' + left if left else ''}")
    return 0


def _restore(config: AgentConfig, options: argparse.Namespace) -> int:
    request = RestoreRequest(file=options.file, to=options.to, give_up_newer=options.give_up_newer)
    given = options.yes_i_mean
    confirm = (lambda question: given) if given is not None else _ask
    print(restore(config, request, confirm, lambda line: print(f"… {line}", file=sys.stderr, flush=True)))
    return 0


def _ask(question: str) -> str:
    try:
        return input(question).strip()
    except EOFError:
        raise PurgeRefused(
            "nobody typed the hostname: nothing was changed (scripts use --yes-i-mean HOSTNAME)"
        ) from None


def _refused(sentence: str) -> int:
    print(f"vault-agent: {' '.join(sentence.split())}", file=sys.stderr)
    return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vault-agent", description="Owns the MariaDB server of one vault node.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True)
    home = argparse.ArgumentParser(add_help=False)
    home.add_argument("--home", type=Path, required=True, help="the agent's directory: settings, data, keys")

    new = commands.add_parser("init", parents=[home], help="make a home for a new node")
    new.add_argument("--hostname", required=True, help="the node's name, as in its certificate")
    new.add_argument("--ip", required=True, help="the address that controllers and the other nodes dial")
    new.add_argument("--port", type=int, default=limits.AGENT_PORT, help="of the agent (%(default)s)")
    new.add_argument("--database-port", type=int, default=limits.DATABASE_PORT, help="of mariadbd (%(default)s)")
    new.add_argument("--pki", type=Path, required=True, help="directory with ca.pem, cert.pem and key.pem; copied")
    new.add_argument("--buffer-pool", default=settings.DEFAULT_BUFFER_POOL, help="of InnoDB (%(default)s)")
    new.add_argument(
        "--cut", choices=["auto", "none"], default="auto", help="use nftables to reject traffic to a revoked primary"
    )
    new.add_argument(
        "--kernel-lease",
        action="store_true",
        help="let the kernel shut a lossless primary's port when its agent is dead",
    )
    new.add_argument(
        "--mariadbd", "--server", default="", help="path of the server, when it is not in the usual place or is mysqld"
    )
    new.add_argument("--install-db", default="", help="path of mariadb-install-db, when it is not in the usual place")
    new.add_argument("--client-database", default="", help="database that the vault's clients use")
    new.add_argument("--client-user", default="", help="their account, made when the node opens as primary")
    new.add_argument("--client-password-file", type=Path, help="file that holds their password in one line")
    new.add_argument(
        "--backup-dir", type=Path, help="private directory for backups, best on another disk (HOME/backups)"
    )

    run = commands.add_parser("serve", parents=[home], help="run the agent until it is told to stop")
    run.add_argument("--stop-database", action="store_true", help="stop mariadbd too when the agent is told to stop")

    look = commands.add_parser("status", parents=[home], help="say how the node is")
    look.add_argument("--json", action="store_true", help="the agent's report as JSON")

    back = commands.add_parser("restore", parents=[home], help="make data out of a backup")
    what = back.add_mutually_exclusive_group(required=True)
    what.add_argument("--from", dest="file", type=Path, metavar="FILE", help="of a backup; its .json lies beside it")
    what.add_argument("--latest", action="store_true", help="the newest good backup of this node")
    back.add_argument(
        "--to", type=Path, metavar="DIR", help="leave the data there, to be read; changes nothing of the node"
    )
    back.add_argument(
        "--give-up-newer",
        action="store_true",
        help="although the node has data that may be newer: they are kept beside",
    )
    back.add_argument("--yes-i-mean", metavar="HOSTNAME", help="confirm without being asked")

    remove = commands.add_parser("purge", parents=[home], help="remove data, keys and certificates for good")
    remove.add_argument("--yes-i-mean", metavar="HOSTNAME", help="confirm without being asked")
    return parser
