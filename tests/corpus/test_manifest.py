"""Manifests: what is written is read."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrdistill.corpus.manifest import Utterance, read_manifest, write_manifest
from asrdistill.errors import CorpusError

SECONDS = st.floats(0, 1e6)
UTTERANCES = st.builds(Utterance, st.text(), st.text(), SECONDS, SECONDS, st.text(), st.none() | st.text())


@given(st.lists(UTTERANCES, max_size=4))
def test_round_trip(utterances: list[Utterance]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.jsonl"
        write_manifest(path, utterances)
        assert read_manifest(path) == utterances


def test_missing_manifest_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="prepare"):
        read_manifest(tmp_path / "train.jsonl")
