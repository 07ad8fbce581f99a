"""Files of others: fetched from where an earlier attempt stopped, checked; archives unpacked whole."""

import errno
import hashlib
import http.client
import secrets
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from asrdistill.errors import CorpusError, DownloadError
from asrdistill.progress import say, track

MIB = 1 << 20
TIMEOUT_S = 60
PARTIAL_CONTENT = 206


def fetch_file(url: str, digest: str | None, path: Path, algorithm: str = "md5", otherwise: str = "") -> None:
    """Download a file and publish it once it is right; `<path>.part` keeps what an interruption leaves.

    Args:
        url: where it is.
        digest: that it must have; None: any.
        path: where it is to be.
        algorithm: of the digest, as hashlib names it.
        otherwise: what people may do where there is no network, for the error.

    Raises:
        DownloadError: the download failed, or what came has another digest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part_path = path.with_name(path.name + ".part")
    try:
        _fetch_rest(url, part_path)
    except (http.client.HTTPException, ValueError, OSError) as error:
        kept = f"; what came is kept in {part_path}" if part_path.is_file() else ""
        raise DownloadError(
            f"{url}: download failed ({error}){kept}: run again to go on{otherwise}"
        ) from error
    with part_path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if digest is not None and found != digest:
        part_path.unlink()
        raise DownloadError(
            f"{url}: the download has {algorithm} {found}, expected {digest}; it was removed: run again"
        )
    part_path.rename(path)


def _fetch_rest(url: str, part_path: Path) -> None:
    present_bytes = part_path.stat().st_size if part_path.is_file() else 0
    headers = {"Range": f"bytes={present_bytes}-"} if present_bytes else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and present_bytes:  # nothing is left to send: the MD5 decides
                return
        raise
    with response:
        is_rest = response.status == PARTIAL_CONTENT
        expected_bytes = int(response.headers.get("Content-Length", 0))
        say(f"{url}: {expected_bytes / MIB:.0f} MiB to download")
        with part_path.open("ab" if is_rest else "wb") as file:
            blocks = iter(lambda: response.read(MIB), b"")
            for block in track(blocks, f"download {part_path.stem}", expected_bytes // MIB + 1, "MiB"):
                file.write(block)
            received_bytes = file.tell() - (present_bytes if is_rest else 0)
    if received_bytes < expected_bytes:
        raise OSError(f"connection closed after {received_bytes} of {expected_bytes} bytes")


def unpack_archive(archive_path: Path, inner_dir: str, target_dir: Path) -> None:
    """Unpack `inner_dir` of a tar archive; it appears as `target_dir` when it is complete.

    Raises:
        CorpusError: the archive is damaged, or has no such folder.
    """
    temporary_dir = target_dir.with_name(f".{target_dir.name}.{secrets.token_hex(4)}.tmp")
    temporary_dir.mkdir(parents=True)
    try:
        with tarfile.open(archive_path) as archive:
            members = track(_members_within(archive, inner_dir), f"unpack {archive_path.name}", unit="file")
            archive.extractall(temporary_dir, members=members, filter="data")
        (temporary_dir / inner_dir).rename(target_dir)
    except (tarfile.TarError, EOFError, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CorpusError(
            f"{archive_path}: cannot be unpacked ({error}); expected a tar archive that holds {inner_dir}: "
            "remove it to download it again"
        ) from error
    finally:
        shutil.rmtree(temporary_dir)


def _members_within(archive: tarfile.TarFile, folder: str) -> Iterator[tarfile.TarInfo]:
    return (member for member in archive if member.name.startswith(f"{folder}/"))
