"""Files of other systems: which ones a setting names, and what opening them tells."""

import gzip
from pathlib import Path

import pytest

from asrdistill.errors import CorpusError
from asrdistill.hmm.imported_files import find_files, open_file

PATTERNS = ("ali*.gz", "*.ark")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ali.2.gz", "ali.1.gz", "all.ark", "final.mdl", "sub/ali.3.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_files_of_a_folder_a_pattern_or_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_files(folder, PATTERNS) == [folder / name for name in ("ali.1.gz", "ali.2.gz", "all.ark")]
    assert find_files(folder / "ali.*.gz", PATTERNS) == [folder / "ali.1.gz", folder / "ali.2.gz"]
    assert find_files(folder / "**/ali.[23].gz", PATTERNS) == [folder / "ali.2.gz", folder / "sub/ali.3.gz"]
    assert find_files(folder / "final.mdl", PATTERNS) == [folder / "final.mdl"]
    monkeypatch.chdir(folder)
    assert find_files(Path("sub"), PATTERNS) == [folder / "sub/ali.3.gz"]
    assert find_files(Path("sub/*"), PATTERNS) == [folder / "sub/ali.3.gz"]


@pytest.mark.parametrize("name", ["nowhere", "nowhere/*.gz", "*.lat"])
def test_no_files(folder: Path, name: str) -> None:
    assert find_files(folder / name, PATTERNS) == []


def test_a_name_with_brackets_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a[1].ark").touch()
    assert find_files(tmp_path / "a[1].ark", PATTERNS) == [tmp_path / "a[1].ark"]


@pytest.mark.parametrize(
    "content", [b"", b"\x1f", b"plain", gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0)]
)
def test_gzip_is_told_by_its_first_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with open_file(path) as file:
        assert file.read() == (b"ab" if len(content) > 10 else content)


def test_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(b"some alignment" * 100)
    for content in (whole[:-3], whole[:12], whole[:20] + b"\xff" * 4 + whole[24:]):
        (tmp_path / "ali.1.gz").write_bytes(content)
        with (
            pytest.raises(CorpusError, match=r"ali\.1\.gz: damaged or cut"),
            open_file(tmp_path / "ali.1.gz") as file,
        ):
            file.read()


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read"), open_file(tmp_path):
        pass
