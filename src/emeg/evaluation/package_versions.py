"""Versions of the packages that results of an evaluation depend on."""

import importlib.metadata

PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "pyriemann")
"""Packages whose versions are recorded."""


def package_versions() -> dict[str, str | None]:
    """Return the versions of the packages that results depend on; None for those that are not installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
