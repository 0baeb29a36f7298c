"""The packages, and with them the profiles and the shipped records, which lie with the book in a clone.

All else is in pyproject.toml, which cannot say that folders of two places are one package.
"""

from setuptools import find_packages, setup

SHIPPED = {f"grokking_core.shipped.{name}": f"book/{name}" for name in ("profiles", "records")}

setup(
    packages=[
        *find_packages(".", include=["grokking_core*"]),
        *find_packages("book", include=["grokking_book*"]),
        *SHIPPED,
    ],
    package_dir={"": ".", "grokking_book": "book/grokking_book"} | SHIPPED,
    package_data={package: ["*.yml", "*.parquet", "*.kept.safetensors"] for package in SHIPPED},
    exclude_package_data={"grokking_core.shipped.records": ["overnight.*"]},  # grows, and stays in the clone
)
