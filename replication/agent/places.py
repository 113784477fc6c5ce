"""Where the data directories of a full copy lie in the agent's home, and what is done to them as a whole: rename, flush, remove."""

import json
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from replication.agent.durable import flush

RUBBISH: Final = "rubbish"


@dataclass(frozen=True)
class Places:
    """All on one file system, so that a rename is all that a swap takes."""

    home: Path

    @property
    def data(self) -> Path:
        """What mariadbd runs on."""
        return self.home / "data"

    @property
    def incoming(self) -> Path:
        """A copy that is still being received or prepared: worth nothing after a crash."""
        return self.home / "copy.new"

    @property
    def ready(self) -> Path:
        """A copy that is complete, prepared and on disk."""
        return self.home / "copy.ready"

    @property
    def parted(self) -> Path:
        """During a swap: the data of before, until it is certain that the new one serves."""
        return self.home / "data.out"

    @property
    def kept(self) -> Path:
        """The data of before the last full copy."""
        return self.home / "data.old"

    @property
    def kept_note(self) -> Path:
        """What to know of `kept`: whose it was and what the agent remembered then."""
        return self.home / "data.old.json"

    @property
    def journal(self) -> Path:
        """There while a swap is under way: until it is gone nothing but the swap may start mariadbd or make a data directory."""
        return self.home / "swap.json"

    def everything(self) -> tuple[Path, ...]:
        """All that a purge removes beside the data."""
        named = (self.incoming, self.ready, self.parted, self.kept, self.kept_note, self.journal)
        return (*named, *self.home.glob(f"{RUBBISH}-*.new"))

    def discard(self, directory: Path) -> None:
        """Take it out of the way at once, and remove it while nobody waits. A crash leaves it to `tidy`. Raises OSError."""
        number = 0
        while (rubbish := self.home / f"{RUBBISH}-{number}.new").exists():
            number += 1
        directory.rename(rubbish)
        flush(self.home)
        threading.Thread(target=shutil.rmtree, args=(rubbish, True), name="removing", daemon=True).start()

    def tidy(self) -> None:
        """What an earlier agent was about to remove."""
        for rubbish in self.home.glob(f"{RUBBISH}-*.new"):
            threading.Thread(target=shutil.rmtree, args=(rubbish, True), name="removing", daemon=True).start()


def move(source: Path, target: Path) -> None:
    """Rename a directory, durably. Never over something: a rename onto an empty directory would replace it. Raises OSError."""
    if target.exists():
        raise FileExistsError(17, "it is there already", str(target))
    source.rename(target)
    flush(target.parent)


def remove(path: Path) -> None:
    """A directory or a file, now; nothing when it is not there. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_note(file: Path) -> Mapping[str, Any] | None:
    """None when it is not there. Raises OSError or ValueError."""
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(content, dict):
        raise ValueError(f"{file} does not hold an object")
    return content
