"""Wheels that the tests write themselves, for pip to install without a network."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping


def wheel(name: str, version: str, files: Mapping[str, str]) -> bytes:
    """Return a wheel (PEP 427) with these files and the required metadata."""
    info = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*contents, f"{info}/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for file, content in {**contents, f"{info}/RECORD": record}.items():
            packed.writestr(file, content)
    return buffer.getvalue()
