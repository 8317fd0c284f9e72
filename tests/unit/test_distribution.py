from importlib import metadata
from importlib.resources import files

import jobsvc


def test_the_installed_version_is_the_package_version() -> None:
    """
    What the installed distribution calls itself is what the package says it is.
    """
    expected = jobsvc.__version__

    version = metadata.version("jobsvc")

    assert expected == version


def test_both_packages_say_that_they_are_typed() -> None:
    """
    A type checker reads the annotations of jobsvc and of projections.
    """
    packages = ("jobsvc", "projections")

    untyped = [package for package in packages if not files(package).joinpath("py.typed").is_file()]

    assert [] == untyped
