"""What the C library is told; the effect shows in `make bench` (page faults vary from run to run)."""

import ctypes
import sys
from types import SimpleNamespace

import pytest

from asrdistill.nn.memory import keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_glibc_knows_both_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    mallopt = ctypes.CDLL(None).mallopt
    accepted = []
    fake = SimpleNamespace(mallopt=lambda key, value: accepted.append((key, value, mallopt(key, value))))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: fake)
    keep_freed_memory()
    # M_MMAP_THRESHOLD at the most that glibc takes, M_TRIM_THRESHOLD off; 1: accepted.
    assert sorted(accepted) == [(-3, 32 << 20, 1), (-1, -1, 1)]


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    keep_freed_memory()
