"""Free memory that cannot be told stops nothing."""

import os
import sys
from pathlib import Path

import pytest
import torch

from grokking_core.devices import limits

CPU = torch.device("cpu")


def refuse(*_):
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("content", [None, "", "MemAvailable: many kB\n", "MemTotal: 5 kB\n"])
def test_free_memory_that_the_system_does_not_tell_is_all_there_is(monkeypatch, content):
    monkeypatch.setattr(Path, "read_text", refuse if content is None else lambda path: content)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert limits.free_bytes(CPU) == 40960
    monkeypatch.setattr(os, "sysconf", refuse)
    assert limits.free_bytes(CPU) == sys.maxsize
