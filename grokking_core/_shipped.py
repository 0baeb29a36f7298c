"""Where profiles and shipped records lie: in a clone with the book, in an installed package with it."""

from pathlib import Path


def folder_of(name: str) -> Path:
    """The folder of the "profiles" or the "records"."""
    package = Path(__file__).parent
    clone = package.parent / "book" / name
    return clone if clone.is_dir() else package / "shipped" / name
