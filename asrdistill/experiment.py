"""The experiment folder: where things lie, atomic publishing, stage stamps, one run at a time."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from asrdistill.errors import ExperimentError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what was written there is synced and renamed at the end.

    An exception leaves neither the temporary file nor a published one.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with explained_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_dir(path.parent)
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)


def sync_dir(path: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained_disk_errors(path: Path) -> Iterator[None]:
    """Tell what the user can mend of what goes wrong while `path` is written.

    Raises:
        ExperimentError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = _describe_disk_error(error)
        if reason is None:
            raise
        raise ExperimentError(
            f"{path}: {reason}; nothing was published there, what was finished is kept: "
            "make room, or choose another folder with EXP=DIR (make) or --exp DIR, and run again"
        ) from error


def _describe_disk_error(error: Exception) -> str | None:
    """What is wrong with the disk; None where it is something else."""
    reasons = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "your share of the disk (quota) is used up",
        errno.EACCES: f"permission denied for {getattr(error, 'filename', None)}",
        errno.EROFS: "the disk is read-only",
    }
    if isinstance(error, OSError):
        return reasons.get(error.errno or 0)
    # safetensors gives the number in its text alone.
    return next((reason for code, reason in reasons.items() if f"os error {code})" in str(error)), None)


def write_json(path: Path, value: Any) -> None:
    """Publish a JSON file atomically, readable by people."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class StagePlan:
    """What determines a stage's result.

    Attributes:
        name: of the stage, and of its folder.
        settings: its part of the recipe, plain values.
        reads: files it reads, relative to the experiment, or absolute where they lie outside it.
        writes: files and folders (with a slash at the end) it leaves, relative to the experiment.
    """

    name: str
    settings: dict[str, Any]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """One recipe's results: `exp/<recipe>/<stage>/...`.

    A finished stage leaves `stamp.json`, written last; one under way `progress.json`, which says from which
    settings and inputs its partial results come, so that only those of the same origin are gone on with.
    """

    dir: Path

    def stage_dir(self, name: str) -> Path:
        return self.dir / name

    def metrics_dir(self, stage: str) -> Path:
        """Where a training stage writes how it goes; kept when the stage is done, and part of no stamp."""
        return self.dir / "metrics" / stage

    def stamp_of(self, name: str) -> dict[str, Any] | None:
        """The stamp of a finished stage, None where there is none."""
        return _read_json(self.stage_dir(name) / "stamp.json")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the experiment for one run.

        Raises:
            ExperimentError: the folder cannot be written, or another run holds it.
        """
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            lock = (self.dir / ".lock").open("w")
        except OSError as error:
            raise ExperimentError(
                f"experiment {self.dir}: cannot be written ({error.strerror}); "
                "choose a folder that you may write with EXP=DIR (make) or --exp DIR"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ExperimentError(
                    f"experiment {self.dir}: another run is working in it; wait for it, "
                    "or choose another folder with EXP=DIR (make) or --exp DIR"
                ) from error
            yield

    def is_running(self) -> bool:
        """Whether a run holds the experiment."""
        try:
            with (self.dir / ".lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def why_stale(self, plan: StagePlan) -> str | None:
        """Why a stage has to run, in a few words; None where its stamp is valid."""
        stamp = self.stamp_of(plan.name)
        if stamp is None:
            return "was interrupted" if self.is_under_way(plan) else "not done yet"
        for key in sorted(stamp["settings"].keys() | plan.settings.keys()):
            old, new = stamp["settings"].get(key), plan.settings.get(key)
            if old != new:
                return f"{key} changed from {_short(old)} to {_short(new)}"
        if set(stamp["reads"]) != set(plan.reads):
            return "it reads other files: " + ", ".join(sorted(set(stamp["reads"]) ^ set(plan.reads))[:3])
        missing = [path for path in plan.writes if not path.endswith("/") and path not in stamp["writes"]]
        if missing:
            return f"an earlier version did not write {missing[0]}"
        for path, was in stamp["reads"].items():
            if not _is_unchanged(self.dir / path, was):
                return f"{path} changed"
        for path, was in stamp["writes"].items():
            if not _is_unchanged(self.dir / path, was):
                return f"{path} is missing or was changed"
        return None

    def begin(self, plan: StagePlan) -> dict[str, Any]:
        """Make the stage's folder ready: intact results of the same origin stay, all else goes.

        Returns:
            What the stage is about to read, for `finish`: a file that changes meanwhile is not what was read.

        Raises:
            ExperimentError: a file that the stage reads is missing.
        """
        folder = self.stage_dir(plan.name)
        for path in plan.reads:
            if not (self.dir / path).is_file():
                stage = path.split("/")[0]
                raise ExperimentError(
                    f"stage {plan.name}: {self.dir / path} is missing; the {stage} stage writes it: "
                    "run that first"
                )
        read = {path: _describe_file(self.dir / path) for path in plan.reads}
        stamp = self.stamp_of(plan.name)
        if stamp and _origin_of_stamp(stamp) == self._origin(plan):
            self._drop_damaged(stamp)
        elif not self.is_under_way(plan):
            shutil.rmtree(folder, ignore_errors=True)
        for leftover in folder.rglob(".*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink(missing_ok=True)
        write_json(folder / "progress.json", {"origin": self._origin(plan)})
        (folder / "stamp.json").unlink(missing_ok=True)
        return read

    def finish(self, plan: StagePlan, read: dict[str, Any], measured: dict[str, Any]) -> None:
        """Write the stamp of a stage whose results are complete.

        Args:
            plan: of the stage; it may name files that the stage itself brought, such as downloads.
            read: what `begin` gave.
            measured: what the stage took.
        """
        folder = self.stage_dir(plan.name)
        stamp = {
            "schema": 1,
            "stage": plan.name,
            "settings": plan.settings,
            "reads": {path: read.get(path) or _describe_file(self.dir / path) for path in plan.reads},
            "writes": {path: _describe_file(self.dir / path) for path in self._list_written(plan)},
            "versions": list_versions(),
            **measured,
        }
        write_json(folder / "stamp.json", stamp)
        self._remove_scratch(plan.name, stamp["writes"])

    def invalidate(self, name: str) -> None:
        """Forget that a stage was done, and its results."""
        shutil.rmtree(self.stage_dir(name), ignore_errors=True)

    def find_damaged(self, name: str) -> list[Path]:
        """Files that a finished stage wrote and whose bytes are not those any more, all of them read."""
        written = (self.stamp_of(name) or {"writes": {}})["writes"]
        return [
            self.dir / path
            for path, was in written.items()
            if not (self.dir / path).is_file() or hash_file(self.dir / path) != was["sha256"]
        ]

    def size_bytes(self, name: str) -> int:
        """Bytes that a stage's files take on disk."""
        return sum(path.stat().st_size for path in self.stage_dir(name).rglob("*") if path.is_file())

    def _drop_damaged(self, stamp: dict[str, Any]) -> None:
        for path, was in stamp["writes"].items():
            if not _is_unchanged(self.dir / path, was):
                (self.dir / path).unlink(missing_ok=True)

    def _list_written(self, plan: StagePlan) -> list[str]:
        paths: list[str] = []
        for written in plan.writes:
            inside = (self.dir / written).rglob("*")
            files = (path for path in inside if path.is_file() and not path.name.startswith("."))
            found = [str(path.relative_to(self.dir)) for path in files]
            paths += sorted(found) if written.endswith("/") else [written]
        return paths

    def _remove_scratch(self, name: str, kept: Iterable[str]) -> None:
        """Remove what a finished stage left beside its results, such as training checkpoints."""
        wanted = {self.dir / path for path in kept} | {self.stage_dir(name) / "stamp.json"}
        for path in self.stage_dir(name).rglob("*"):
            if path.is_file() and path not in wanted:
                path.unlink()

    def is_under_way(self, plan: StagePlan) -> bool:
        """Whether a stage was begun, with these settings and inputs, and not finished."""
        return self.read_origin(plan.name) == self._origin(plan)

    def read_origin(self, stage: str) -> str | None:
        """A hash of settings and inputs that a stage was begun with; None where none is under way."""
        progress = _read_json(self.stage_dir(stage) / "progress.json")
        return None if progress is None else str(progress["origin"])

    def _origin(self, plan: StagePlan) -> str:
        hashes = {path: hash_file(self.dir / path) for path in plan.reads if (self.dir / path).is_file()}
        return _hash_origin(plan.settings, hashes)


def _origin_of_stamp(stamp: dict[str, Any]) -> str:
    return _hash_origin(stamp["settings"], {path: was["sha256"] for path, was in stamp["reads"].items()})


def _hash_origin(settings: dict[str, Any], hashes: dict[str, str]) -> str:
    text = json.dumps([settings, hashes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def list_versions() -> dict[str, str]:
    """Versions of what results depend on."""
    names = (
        "asrdistill",
        "torch",
        "torchaudio",
        "numpy",
        "numba",
        "kaldifst",
        "webdataset",
        "jiwer",
        "tensorboard",
    )
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def _describe_file(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"sha256": hash_file(path), "size_bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _is_unchanged(path: Path, was: dict[str, Any]) -> bool:
    """Compare with size and time first, as make does, and read the bytes only where the time differs."""
    if not path.is_file():
        return False
    stat = path.stat()
    if stat.st_size != was["size_bytes"]:
        return False
    return stat.st_mtime_ns == was["mtime_ns"] or hash_file(path) == was["sha256"]


def _read_json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _short(value: Any) -> str:
    text = "unset" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
