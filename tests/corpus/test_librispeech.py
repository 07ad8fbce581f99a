"""The layout of LibriSpeech and its download, from a local server of a small copy."""

import hashlib
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from asrdistill.corpus import librispeech
from asrdistill.corpus.config import import_corpus, input_paths
from asrdistill.corpus.download import fetch_file, unpack_archive
from asrdistill.corpus.librispeech import Archive, LibrispeechConfig, Source, read_source
from asrdistill.errors import CorpusError, DownloadError

WriteTone = Callable[..., Path]

Server = tuple[str, type["RangeHandler"]]
SPEAKERS = {"train-clean-100": ["19"], "dev-clean": ["84", "174"], "test-clean": ["61"]}


@pytest.fixture
def corpus(tmp_path: Path, write_tone: WriteTone) -> Path:
    """A LibriSpeech of four speakers with two utterances each."""
    root = tmp_path / "LibriSpeech"
    for subset, speakers in SPEAKERS.items():
        for speaker in speakers:
            folder = root / subset / speaker / "100"
            names = [f"{speaker}-100-{number:04d}" for number in range(2)]
            for name in names:
                write_tone(folder / f"{name}.flac", 0.5)
            (folder / f"{speaker}-100.trans.txt").write_text(
                "".join(f"{name} IT'S {name[-1]}\n" for name in names)
            )
    return root


class RangeHandler(BaseHTTPRequestHandler):
    """Serves `files`, from where the Range header says; hangs up after `num_bytes`."""

    files: dict[str, bytes]
    num_bytes = 1 << 30
    ranges: list[str]

    def do_GET(self) -> None:
        content, wanted = self.files[self.path], self.headers.get("Range", "")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-") or 0)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.num_bytes])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[RangeHandler]]]:
    handler = type("Handler", (RangeHandler,), {"files": {}, "ranges": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", handler
        http.shutdown()
        thread.join()


def make_archive(root: Path, subset: str) -> bytes:
    path = root.parent / "made.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(root / subset, f"LibriSpeech/{subset}")
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.mark.parametrize("folder", [".", "LibriSpeech"])
def test_layout(corpus: Path, folder: str) -> None:
    config = LibrispeechConfig(path=corpus.parent / folder)
    splits = import_corpus(config, corpus)
    assert [utterance.id for utterance in splits["dev"]] == [
        "174-100-0000", "174-100-0001", "84-100-0000", "84-100-0001"
    ]  # fmt: skip
    last = splits["dev"][-1]
    assert (last.speaker, last.text, last.duration) == ("84", "IT'S 1", 0.5)
    assert last.audio_filepath == str(corpus / "dev-clean/84/100/84-100-0001.flac")
    assert len(input_paths(config)) == 5


@pytest.mark.parametrize("folder", [".", "LibriSpeech"])
def test_genders_are_in_the_list_of_speakers(corpus: Path, folder: str) -> None:
    config = LibrispeechConfig(path=corpus.parent / folder, untranscribed=("dev-clean",))
    unknown = import_corpus(config, corpus)
    assert {u.gender for many in unknown.values() for u in many} == {None}
    path = corpus / "SPEAKERS.TXT"
    path.write_text(
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n"
        "19   | F | train-clean-100  | 25.19 | Kara Shallenberg\n"
        '84   | F | dev-clean        | 8.02  | "Christie | Nowak"\n'
        "174  | M | dev-clean        | 8.04  | Peter Eastman\n"
    )
    found = import_corpus(config, corpus)
    genders = {split: {(u.speaker, u.gender) for u in many} for split, many in found.items()}
    assert genders == {
        "train": {("19", "f")},
        "dev": {("84", "f"), ("174", "m")},
        "test": {("61", None)},
        "untranscribed": {("84", "f"), ("174", "m")},
    }
    assert path in input_paths(config)
    path.write_text("; a comment\n19 F\n")
    with pytest.raises(CorpusError, match=r"SPEAKERS\.TXT, line 2: found '19 F'"):
        import_corpus(config, corpus)


def test_subsets_without_transcripts(corpus: Path) -> None:
    folder = corpus / "train-clean-100"
    folder.rename(corpus / "train-other-500")
    (corpus / "dev-clean").rename(folder)
    (corpus / "test-clean").rename(corpus / "dev-clean")
    transcripts = list((corpus / "train-other-500").glob("*/*/*.trans.txt"))
    for path in transcripts:
        path.unlink()
    config = LibrispeechConfig(path=corpus, test=("dev-clean",), untranscribed=("train-other-500",))
    found = import_corpus(config, corpus)["untranscribed"]
    assert [(u.id, u.speaker, u.text, u.duration) for u in found] == [
        ("19-100-0000", "19", "", 0.5), ("19-100-0001", "19", "", 0.5)
    ]  # fmt: skip
    for path in (corpus / "train-other-500").glob("*/*/*.flac"):
        path.unlink()
    with pytest.raises(CorpusError, match="no recordings; expected"):
        import_corpus(config, corpus)


def test_one_subset_divided_by_speaker(corpus: Path) -> None:
    (corpus / "dev-clean").rename(corpus / "dev-clean-2")
    (corpus / "train-clean-100").rename(corpus / "train-clean-5")
    config = LibrispeechConfig(
        path=corpus,
        source="mini_librispeech",
        train=("train-clean-5",),
        dev=("dev-clean-2",),
        test=("dev-clean-2",),
    )
    speakers = read_source(librispeech.source_path(config)).speakers
    splits = import_corpus(config, corpus)
    assert {u.speaker for u in splits["dev"]} == {"84", "174"} & set(speakers["dev"])
    assert {u.speaker for u in splits["test"]} == {"84", "174"} & set(speakers["test"])
    (corpus / "dev-clean-2/84").rename(corpus / "dev-clean-2/85")
    with pytest.raises(CorpusError, match="speakers 85 "):
        import_corpus(config, corpus)


def test_speaker_lists_share_nobody() -> None:
    speakers = read_source(librispeech.MANIFESTS_DIR / "mini_librispeech.json").speakers
    assert {split: len(set(names)) for split, names in speakers.items()} == {"dev": 20, "test": 20}
    assert not set(speakers["dev"]) & set(speakers["test"])


@pytest.mark.parametrize("name", ["librispeech", "mini_librispeech"])
def test_checksums_are_md5(name: str) -> None:
    for subset, archive in read_source(librispeech.MANIFESTS_DIR / f"{name}.json").archives.items():
        assert archive.url.endswith(f"/{subset}.tar.gz")
        assert archive.md5 is None or len(bytes.fromhex(archive.md5)) == 16


def test_missing_subset_offers_the_download(corpus: Path) -> None:
    with pytest.raises(CorpusError, match=r"subset test-other.*corpus\.download=true"):
        import_corpus(LibrispeechConfig(path=corpus, test=("test-other",)), corpus)
    with pytest.raises(CorpusError, match="not in LibriSpeech, which has dev-clean"):
        import_corpus(LibrispeechConfig(path=corpus, test=("mine",), download=True), corpus)


def test_download(corpus: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url, handler = server
    archives = {}
    for subset in SPEAKERS:
        content = handler.files[f"/{subset}.tar.gz"] = make_archive(corpus, subset)
        md5 = hashlib.md5(content).hexdigest()
        archives[subset] = Archive(url=f"{url}/{subset}.tar.gz", md5=md5)
    source = Source(name="x", source="x", licence="x", archives=archives)
    monkeypatch.setattr(librispeech, "read_source", lambda _: source)
    config = LibrispeechConfig(path=tmp_path / "new", download=True)
    splits = import_corpus(config, tmp_path)
    assert {split: len(utterances) for split, utterances in splits.items()} == {
        "train": 2,
        "dev": 4,
        "test": 2,
    }
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["LibriSpeech"]
    assert sorted(path.name for path in (tmp_path / "new/LibriSpeech").iterdir()) == sorted(SPEAKERS)
    assert len(handler.ranges) == 3
    assert import_corpus(config, tmp_path) == splits
    assert len(handler.ranges) == 3, "what is there is not fetched again"


def test_download_goes_on_where_it_stopped(tmp_path: Path, server: Server) -> None:
    url, handler = server
    content = handler.files["/a.tar.gz"] = bytes(range(256)) * 100
    handler.num_bytes = 1000
    md5 = hashlib.md5(content).hexdigest()
    path = tmp_path / "a.tar.gz"
    with pytest.raises(DownloadError, match="run again to go on"):
        fetch_file(f"{url}/a.tar.gz", md5, path)
    assert not path.exists()
    handler.num_bytes = 1 << 30
    fetch_file(f"{url}/a.tar.gz", md5, path)
    assert path.read_bytes() == content
    assert handler.ranges == ["", "bytes=1000-"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


def test_wrong_md5_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    with pytest.raises(DownloadError, match="expected 0000"):
        fetch_file((tmp_path / "a").as_uri(), "0" * 32, tmp_path / "new/b")
    assert not list((tmp_path / "new").iterdir())


def test_unreachable_server_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="download failed"):
        fetch_file("http://127.0.0.1:1/a", None, tmp_path / "a")


def test_damaged_archive_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(make_archive(corpus, "dev-clean")[:-200])
    with pytest.raises(CorpusError, match="cannot be unpacked"):
        unpack_archive(path, "LibriSpeech/dev-clean", tmp_path / "new/dev-clean")
    assert not list((tmp_path / "new").iterdir())
