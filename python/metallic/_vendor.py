"""Where the OpenBLAS that pip installs lies."""

from __future__ import annotations

import importlib.util
import os
import sys

from . import _core


def offer_openblas() -> None:
    """Hands the core the path of scipy_openblas32's library, for the backend "mps" of the cpu device.

    The package is only located, neither imported nor loaded; METALLIC_OPENBLAS, when set, wins.
    """
    if os.environ.get("METALLIC_OPENBLAS"):
        return
    spec = importlib.util.find_spec("scipy_openblas32")
    suffix = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = os.path.join(folder, "lib", "libscipy_openblas" + suffix)
        if os.path.exists(path):
            _core._set_openblas_path(path)
            return
