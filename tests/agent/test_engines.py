"""Which engine a program is: by its own word. The real ones are in tests/mysql and everywhere else."""

from pathlib import Path

import pytest

from replication.agent.config import ConfigError
from replication.agent.engines import engine_of

MARIADB = "mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)"


def program(directory: Path, says: str, code: int = 0) -> str:
    path = directory / "server"
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("says", "engine"),
    [
        (MARIADB, "mariadb"),
        ("/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", "mysql"),
        ("/usr/sbin/mysqld  Ver 8.4.6 for Linux on x86_64 (MySQL Community Server - GPL)", "mysql"),
        ("mysqld  Ver 11.4.1 for Linux on x86_64", "mariadb"),
        ("it says nothing of the kind", "mariadb"),
    ],
)
def test_a_program_says_what_it_is(tmp_path: Path, says: str, engine: str) -> None:
    assert engine_of(program(tmp_path, says)) == engine


@pytest.mark.parametrize("version", ["8.0.43", "8.3.0", "5.7.44"])
def test_an_old_mysql_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(ConfigError, match=r"too old: MySQL 8\.4 or later"):
        engine_of(program(tmp_path, f"mysqld  Ver {version} for Linux on x86_64 (MySQL Community Server - GPL)"))


def test_a_program_that_cannot_be_asked_is_left_to_whoever_starts_it(tmp_path: Path) -> None:
    assert engine_of(str(tmp_path / "nothing")) == "mariadb"
