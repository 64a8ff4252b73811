"""The last good publication on disk, for a start while Redis is down.

Files lie in ``HUIDU_HOME/edge/``. Several processes may share the folder: each file is written
beside and renamed, so a reader finds a whole one or none.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

logger = logging.getLogger("huidu.edge")


class Keep:
    """Named blobs of one environment in one folder."""

    def __init__(self, home: Path, environment: str) -> None:
        self.folder = home / "edge"
        self.environment = environment

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.environment}.{name}"

    def write(self, name: str, data: bytes) -> None:
        """Keep a blob. A full or read-only disk is logged, never fatal: the check goes on."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, new = tempfile.mkstemp(dir=self.folder, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                Path(new).replace(self._path(name))
            except BaseException:
                Path(new).unlink(missing_ok=True)
                raise
        except OSError as error:
            logger.warning("edge.not_kept name=%s error=%s", name, error)

    def read(self, name: str) -> bytes | None:
        """The blob as last written, or None."""
        try:
            return self._path(name).read_bytes()
        except OSError:
            return None
