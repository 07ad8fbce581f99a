"""Files that other systems wrote: found by name, folder or pattern, and opened whether gzipped or not."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

from asrdistill.errors import CorpusError

GZIP_MAGIC = b"\x1f\x8b"


def find_files(path: Path, folder_patterns: Sequence[str]) -> list[Path]:
    """Absolute paths of the files that a setting names, in alphabetical order; none where there are none.

    Args:
        path: a file, a folder, or a pattern such as `ali.*.gz`.
        folder_patterns: which files of a folder are meant.
    """
    path = path.absolute()
    if path.is_file():
        return [path]
    root, patterns = path, folder_patterns
    if not path.is_dir():
        root, patterns = Path(path.anchor), [str(path.relative_to(path.anchor))]
    found = {file for pattern in patterns for file in root.glob(pattern)}
    return sorted(file for file in found if file.is_file())


@contextmanager
def open_file(path: Path) -> Iterator[BufferedIOBase]:
    """Open a file to read its bytes, unpacked where they are gzipped, whatever its name.

    Raises:
        CorpusError: it cannot be read, or what is gzipped is damaged.
    """
    try:
        with path.open("rb") as file:
            if file.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC):
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield unpacked
            else:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(
            f"{path}: damaged or cut ({error}); expected a whole gzip file: copy or write it again"
        ) from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror}); make it readable for you") from error
