"""Files and names that outlast a crash: flushed before anything is done because of them."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def flush(directory: Path) -> None:
    """The names in it. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(file: Path, content: Mapping[str, Any], scratch: Path | None = None) -> None:
    """For its owner only. A crash at any moment leaves the old or the new content, whole. Raises OSError.

    scratch: what it is written to first, beside it; the default is its name with ".new".
    """
    scratch = scratch or file.with_name(file.name + ".new")
    try:
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(content, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        scratch.replace(file)
    except OSError:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise
    flush(file.parent)
