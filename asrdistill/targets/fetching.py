"""Shards that lie on a web server, fetched whole and checked; what is there already is not fetched again."""

import json
from pathlib import Path
from typing import Any

from asrdistill.corpus.download import fetch_file
from asrdistill.errors import ContractError
from asrdistill.experiment import hash_file
from asrdistill.targets.shards import list_other_files


def fetch_shards(url: str, shards_dir: Path) -> None:
    """Fetch a dump; its index comes last into the folder, so that a folder with one is complete.

    What is there of another dump of the same names goes.

    Args:
        url: of the folder with `index.json`.
        shards_dir: where it is to be.

    Raises:
        DownloadError: something cannot be fetched, or is not what the index says.
        ContractError: the index is none.
    """
    base, incoming = url.rstrip("/"), shards_dir / "incoming.json"
    shards_dir.mkdir(parents=True, exist_ok=True)
    incoming.with_name(incoming.name + ".part").unlink(missing_ok=True)  # perhaps of another dump
    fetch_file(f"{base}/index.json", None, incoming)
    index_path = shards_dir / "index.json"
    if index_path.is_file() and index_path.read_bytes() != incoming.read_bytes():
        index_path.unlink()
    for name, sha256 in _list_files(incoming, base).items():
        path = shards_dir / name
        if not path.is_file() or hash_file(path) != sha256:
            fetch_file(f"{base}/{name}", sha256, path, "sha256")
    incoming.replace(index_path)


def _list_files(index_path: Path, base: str) -> dict[str, str]:
    """SHA-256 of every file that an index names."""
    try:
        index: dict[str, Any] = json.loads(index_path.read_text(encoding="utf-8"))
        shards = [shard for many in index["splits"].values() for shard in many]
        files = {**list_other_files(index), **{shard["file"]: shard["sha256"] for shard in shards}}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ContractError(
            f"{base}/index.json: not the index of soft-target shards ({error!r}); give the URL of the folder "
            "that the soft-targets stage wrote, soft_targets/shards"
        ) from error
    # A name is not to lead out of the folder.
    strange = [name for name in files if Path(name).name != name or name.startswith(".")]
    if strange:
        raise ContractError(f"{base}/index.json: {strange[0]!r} is no file name; nothing was fetched")
    return files
