"""Workers that share out files to be made, on one machine or on several with a common file system.

They do not talk to each other: whoever creates a file's claim makes it, and keeps the claim's time of change
young meanwhile. A claim that has grown old, or whose process is no more on this machine, was left by a worker
that died, and is taken over. Should two workers make the same file after all, both make the same bytes, and
each publishes it whole.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# File systems of networks may show a file's time of change a minute late.
LEASE_S = 300.0
POLL_S = 1.0


def share_out(folder: Path, names: Sequence[str], lease_s: float = LEASE_S) -> Iterator[str]:
    """Give files of a folder to be made, one after the other; ends when all are there, whoever made them.

    A file is claimed from when it is given until the next one is asked for, and is to be there by then.

    Args:
        folder: where they are to be.
        names: of the files.
        lease_s: a claim that nobody has touched for so long is nobody's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not (folder / name).is_file()]
    while missing:
        is_idle = True
        for name in missing:
            if (folder / name).is_file():
                continue
            with _claim(folder / f".{name}.claim", lease_s) as is_ours:
                if is_ours and not (folder / name).is_file():
                    is_idle = False
                    yield name
        missing = [name for name in missing if not (folder / name).is_file()]
        if missing and is_idle:
            time.sleep(POLL_S)


def drop_leftovers(folder: Path) -> None:
    """Remove what workers left behind that died, or are at what nobody waits for; all files are there.

    Not what network file systems keep under such names of files that somebody still reads.
    """
    for path in folder.glob(".*"):
        if path.is_file() and not path.name.startswith(".nfs"):
            path.unlink(missing_ok=True)


@contextmanager
def _claim(path: Path, lease_s: float) -> Iterator[bool]:
    if not _take(path, lease_s):
        yield False
        return
    done = threading.Event()
    keeper = threading.Thread(target=_keep_young, args=(path, lease_s / 4, done), daemon=True)
    keeper.start()
    try:
        yield True
    finally:
        done.set()
        keeper.join()
        path.unlink(missing_ok=True)


def _take(path: Path, lease_s: float) -> bool:
    """Whether the claim is ours now."""
    # Linked, so that a claim always tells whose it is, even if its worker is killed right now.
    signed = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    signed.write_text(f"{_name_machine()} {os.getpid()}\n", encoding="utf-8")
    try:
        for _ in range(2):
            with suppress(FileExistsError):
                _link(signed, path)
                return True
            if _age(path) < lease_s and not _is_orphaned(path):
                return False
            path.unlink(missing_ok=True)
        return False
    finally:
        signed.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Seconds since a claim was touched, by the file system's clock: machines may disagree about the time."""
    probe = path.with_name(f".{secrets.token_hex(4)}.clock")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:  # its owner has just finished
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _link(signed: Path, path: Path) -> None:
    """Raises:
    FileExistsError: there is a claim already.
    """
    try:
        path.hardlink_to(signed)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with path.open("x", encoding="utf-8") as claim:
            claim.write(signed.read_text(encoding="utf-8"))


def _name_machine() -> str:
    """Host, and where there is such the space of process numbers, which containers do not share."""
    space = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{space.stat().st_ino if space.exists() else 0}"


def _is_orphaned(path: Path) -> bool:
    """Whether the claim names a process of this machine that is no more."""
    try:
        machine, pid = path.read_text(encoding="utf-8").split()
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return machine == _name_machine()
    except (OSError, ValueError):  # it is gone, or of another user's process
        return False
    return False


def _keep_young(path: Path, interval_s: float, done: threading.Event) -> None:
    while not done.wait(interval_s):
        with suppress(FileNotFoundError):  # taken over by another worker, if we were asleep for too long
            os.utime(path)
