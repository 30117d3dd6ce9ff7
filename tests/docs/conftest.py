"""Shared by the tests of the documentation."""

import os
import zipfile

import pytest
from projects import ROOT, build

KERNELS = ROOT / "plugins" / "attention-core-kernels"


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """The variables of processes that have the kernels distribution, installed as for the site."""
    folder = tmp_path_factory.mktemp("kernels")
    build(KERNELS, folder, "-t", "wheel")
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    paths = [str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
