"""Stops builds with a version of Python that is too old, before dependencies are resolved.

`requires-python` alone is not enough: the pip that comes with Python 3.10 first searches through
versions of all dependencies, for more than ten minutes and without a message.
"""

import sys

from hatchling.metadata.plugin.interface import MetadataHookInterface

OLDEST = (3, 11)

# Checked here and not in `update`, which is called for dynamic fields only. This file is loaded
# whenever metadata is prepared, the first step of an installer.
if sys.version_info < OLDEST:
    sys.exit(
        f"attention-core needs Python {'.'.join(map(str, OLDEST))} or newer; "
        f"this is Python {sys.version.split()[0]} in {sys.prefix}"
    )


class PythonVersion(MetadataHookInterface):
    """Adds nothing to the metadata."""

    def update(self, metadata: dict) -> None:
        """Leave the metadata unchanged."""
