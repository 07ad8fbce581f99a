"""Shards: what goes in comes out, strangers can read them, and what is not as promised is refused."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from asrdistill.errors import ContractError
from asrdistill.nn.soft_targets import DenseTargets, LowRankTargets
from asrdistill.targets.codecs import DenseConfig, load_array, open_codec, save_array
from asrdistill.targets.shards import (
    FRAME_RECORD,
    ShardReader,
    SoftTargetSample,
    Weighting,
    codebook_path,
    is_written_by,
    plan_shards,
    write_index,
    write_shard,
)
from asrdistill.targets.transform import TransformConfig, learn_codebook

NUM_BINS, NUM_PDFS = 4, 6
TEMPERATURES = (1.0, 2.5)
IDS = ("plain", "1272-128104-0000", "a.b.wav", "dir/file", "Zoë 東京 two words", "__x__", "100%2E", "l" * 120)


def draw_records(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    records = np.empty(num_frames, FRAME_RECORD)
    records["pdf_id"] = rng.integers(-1, NUM_PDFS, num_frames)
    records["votes"] = rng.integers(1, 11, num_frames)
    records["distance"] = rng.integers(0, 256, num_frames)
    return records


def make_samples(ids: tuple[str, ...] = IDS, seed: int = 0) -> list[SoftTargetSample]:
    rng = np.random.default_rng(seed)
    samples = []
    for number, name in enumerate(ids):
        num_frames = 5 + 3 * number
        samples.append(
            SoftTargetSample(
                name,
                rng.normal(size=(num_frames, NUM_BINS)).astype(np.float16),
                draw_records(rng, num_frames),
                {
                    t: save_array(rng.dirichlet(np.ones(NUM_PDFS), num_frames).astype(np.float16))
                    for t in TEMPERATURES
                },
            )
        )
    return samples


def describe(name: str, samples: list[SoftTargetSample]) -> dict[str, object]:
    return {
        "file": name,
        "lengths": [len(sample.features) for sample in samples],
        "num_aligned": [int((sample.records["pdf_id"] >= 0).sum()) for sample in samples],
    }


@pytest.fixture
def shards_dir(tmp_path: Path) -> Path:
    """All samples in two shards, with their index."""
    samples = make_samples()
    parts = {"train-000000.tar": samples[:3], "train-000001.tar": samples[3:]}
    for name, part in parts.items():
        write_shard(tmp_path / name, iter(part), "npy")
    identity = {
        "codec": {"kind": "dense"},
        "average": "arithmetic",
        "temperatures": list(TEMPERATURES),
        "num_pdfs": NUM_PDFS,
        "features": {"num_mel_bins": NUM_BINS},
        "teachers": {"num_teachers": 10},
    }
    write_index(tmp_path, {"train": [describe(*item) for item in parts.items()]}, identity)
    return tmp_path


def read_all(shards_dir: Path, temperature: float, split: str = "train") -> list[SoftTargetSample]:
    reader = ShardReader(shards_dir)
    return [
        sample for shard in reader.index["splits"][split] for sample in reader.samples(shard, temperature)
    ]


def change_index(shards_dir: Path, **values: object) -> None:
    """As another version would have written it."""
    path = shards_dir / "index.json"
    index = json.loads(path.read_text()) | values
    del index["sha256"]
    digest = hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**index, "sha256": digest}))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_round_trip(shards_dir: Path, temperature: float) -> None:
    found = read_all(shards_dir, temperature)
    expected = make_samples()
    assert [sample.id for sample in found] == list(IDS)
    for one, other in zip(found, expected, strict=True):
        for a, b in ((one.features, other.features), (one.records, other.records)):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        assert one.soft_targets == {temperature: other.soft_targets[temperature]}


@pytest.mark.parametrize("name", IDS)
def test_every_id_survives_alone(tmp_path: Path, name: str) -> None:
    write_shard(tmp_path / "one.tar", iter(make_samples((name,))), "npy")
    write_index(
        tmp_path,
        {"dev": [describe("one.tar", make_samples((name,)))]},
        {"codec": {"kind": "dense"}, "average": "arithmetic", "temperatures": list(TEMPERATURES)},
    )
    assert [sample.id for sample in read_all(tmp_path, 1.0, "dev")] == [name]


def test_loaded_frames_are_those_written(shards_dir: Path) -> None:
    frames = ShardReader(shards_dir).load("train", 2.5)
    samples = make_samples()
    np.testing.assert_array_equal(frames.frames, np.concatenate([s.features for s in samples]))
    np.testing.assert_array_equal(frames.pdf_ids, np.concatenate([s.records["pdf_id"] for s in samples]))
    assert isinstance(frames.soft_targets, DenseTargets)
    soft = np.concatenate([load_array(s.soft_targets[2.5]) for s in samples])
    np.testing.assert_array_equal(frames.soft_targets.probabilities, soft)
    assert len(frames) == sum(len(s.features) for s in samples), "those without hard target have a soft one"
    without = ShardReader(shards_dir).load("train", None)
    assert len(without) == sum(int((s.records["pdf_id"] >= 0).sum()) for s in samples)
    ends = np.cumsum([len(s.features) for s in samples])
    np.testing.assert_array_equal(frames.starts, [0, *ends])


@pytest.mark.parametrize("weighting", ["none", "votes", "distance"])
def test_frames_count_by_how_much_the_teachers_agree(shards_dir: Path, weighting: Weighting) -> None:
    frames = ShardReader(shards_dir).load("train", 2.5, weighting)
    records = np.concatenate([sample.records for sample in make_samples()])
    expected = {"votes": records["votes"] / 10, "distance": 1 - records["distance"] / 255}
    if weighting == "none":
        assert frames.weights is None
    else:
        assert frames.weights is not None and frames.weights.dtype == np.float32
        np.testing.assert_allclose(frames.weights, expected[weighting], atol=1e-6)


# WebDataset leaves it to the garbage collector to close its files.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stranger_can_read_them(shards_dir: Path) -> None:
    """Nothing but webdataset and numpy, as its documentation says."""
    urls = str(shards_dir / "train-{000000..000001}.tar")
    items = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert [unquote(item["__key__"]) for item in items] == list(IDS)
    for item, sample in zip(items, make_samples(), strict=True):
        np.testing.assert_array_equal(item["features.npy"], sample.features)
        np.testing.assert_array_equal(item["frames.npy"], sample.records)
        np.testing.assert_array_equal(item["soft_t1.npy"], load_array(sample.soft_targets[1.0]))
        np.testing.assert_array_equal(item["soft_t2.5.npy"], load_array(sample.soft_targets[2.5]))


@pytest.mark.end_to_end
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_lines_in_the_readme_read_a_dump(transformed: Path, finished: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    script = readme.partition("```python\n")[2].partition("```")[0]
    assert "webdataset" in script
    names: dict[str, object] = {}
    exec(script.replace("exp/espeak", str(transformed)), names)
    soft, hard = names["soft"], names["hard"]
    assert isinstance(soft, torch.Tensor) and isinstance(hard, np.ndarray)
    assert len(soft) == len(hard) > 0
    targets, everything = names["targets"], torch.arange(len(hard))[None]
    assert isinstance(targets, LowRankTargets)
    plain = targets.without_corrections().take(everything)[0]
    torch.testing.assert_close(plain.sum(1), torch.ones(len(hard)))
    # The script ends with the last utterance of the first shard.
    dense = ShardReader(finished / "soft_targets/shards").load_shards("train", [0], 2.0).soft_targets
    assert isinstance(dense, DenseTargets)
    np.testing.assert_allclose(soft, dense.probabilities[-len(hard) :], atol=0.03 + 1e-3)


def test_plain_tar_and_numpy_read_them(shards_dir: Path) -> None:
    with tarfile.open(shards_dir / "train-000000.tar") as tar:
        names = [f"plain.{kind}.npy" for kind in ("features", "frames", "soft_t1", "soft_t2.5")]
        assert tar.getnames()[:4] == names
        stored = tar.extractfile("plain.frames.npy")
        assert stored is not None
        np.testing.assert_array_equal(np.load(io.BytesIO(stored.read())), make_samples()[0].records)


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.tar", "two.tar")]
    for path in paths:
        write_shard(path, iter(make_samples()), "npy")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_failure_leaves_no_shard(tmp_path: Path) -> None:
    def fail() -> Iterator[SoftTargetSample]:
        yield make_samples()[0]
        raise RuntimeError("teachers gave up")

    with pytest.raises(RuntimeError, match="teachers gave up"):
        write_shard(tmp_path / "train-000000.tar", fail(), "npy")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_shard_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "train-000000.tar"
    write_shard(path, iter(make_samples()), "npy")
    before = path.read_bytes()

    def fail() -> Iterator[SoftTargetSample]:
        yield make_samples(seed=1)[0]
        raise RuntimeError("teachers gave up")

    with pytest.raises(RuntimeError, match="teachers gave up"):
        write_shard(path, fail(), "npy")
    assert path.read_bytes() == before


def test_the_index_describes_every_shard(shards_dir: Path) -> None:
    index = json.loads((shards_dir / "index.json").read_text())
    assert (index["schema"], index["codec"]) == (4, {"kind": "dense"})
    assert index["teachers"] == {"num_teachers": 10}
    shards = index["splits"]["train"]
    assert sorted(shard["file"] for shard in shards) == sorted(p.name for p in shards_dir.glob("*.tar"))
    for shard, samples in zip(shards, (make_samples()[:3], make_samples()[3:]), strict=True):
        content = (shards_dir / shard["file"]).read_bytes()
        assert shard["sha256"] == hashlib.sha256(content).hexdigest()
        assert shard["num_frames"] == sum(len(sample.features) for sample in samples)
        expected = sum(
            1024 + (len(s.soft_targets[t]) - 1) // 512 * 512 for s in samples for t in TEMPERATURES
        )
        assert shard["soft_target_bytes"] == expected


def test_the_reader_knows_the_shapes(shards_dir: Path) -> None:
    reader = ShardReader(shards_dir)
    assert (reader.num_pdfs, reader.num_bins) == (NUM_PDFS, NUM_BINS)


def test_no_index_is_refused(shards_dir: Path) -> None:
    (shards_dir / "index.json").unlink()
    with pytest.raises(ContractError, match=r"index\.json: not found; the soft-targets stage"):
        ShardReader(shards_dir)


def test_another_schema_is_refused(shards_dir: Path) -> None:
    change_index(shards_dir, schema=1)
    with pytest.raises(ContractError, match=r"schema 1, this version reads 4; dump again"):
        ShardReader(shards_dir)


def test_another_codec_is_refused(shards_dir: Path) -> None:
    change_index(shards_dir, codec={"kind": "wavelets"})
    with pytest.raises(ContractError, match=r"codec \{'kind': 'wavelets'\} is not known here"):
        ShardReader(shards_dir)


@pytest.mark.parametrize("content", ["", "[]", "{", "null", "\xff"])
def test_what_is_no_index_is_refused(shards_dir: Path, content: str) -> None:
    (shards_dir / "index.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ContractError, match=r"index\.json: not readable"):
        ShardReader(shards_dir)


def test_a_changed_index_is_refused(shards_dir: Path) -> None:
    path = shards_dir / "index.json"
    path.write_text(path.read_text().replace('"num_pdfs": 6', '"num_pdfs": 7'))
    with pytest.raises(ContractError, match=r"has not the SHA-256 in it: damaged"):
        ShardReader(shards_dir)


def test_a_temperature_that_is_not_stored_is_refused(shards_dir: Path) -> None:
    with pytest.raises(ContractError, match=r"no targets at T=4, stored: T=1, 2\.5; .* dump again"):
        read_all(shards_dir, 4.0)


def test_a_shard_that_is_no_tar_was_not_written_by_a_codec(tmp_path: Path) -> None:
    path = tmp_path / "train-000000.tar"
    path.write_bytes(b"0" * 2048)
    assert not is_written_by(path, {2.0: open_codec(DenseConfig(), codebook_path(tmp_path, 2.0))})


def draw_smooth(num_frames: int, seed: int) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(size=(num_frames + 19, NUM_PDFS))
    logits = np.stack([steps[n : n + 20].mean(0) for n in range(num_frames)]) * 5
    exponentials = np.exp(logits)
    return (exponentials / exponentials.sum(1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("average", "correction", "is_served"),
    [("geometric", None, True), ("arithmetic", None, False), ("geometric", 0.05, False)],
)
def test_geometric_averages_that_were_transformed_serve_any_temperature(
    tmp_path: Path, average: str, correction: float | None, is_served: bool
) -> None:
    config = TransformConfig(step=0.01, correction=correction)
    learn_codebook([draw_smooth(200, seed) for seed in range(5)], config).write(codebook_path(tmp_path, 2.0))
    soft = draw_smooth(50, 9)
    content = open_codec(config, codebook_path(tmp_path, 2.0)).encode(soft, np.random.default_rng(0))
    features, records = np.zeros((50, NUM_BINS), np.float16), np.zeros(50, FRAME_RECORD)
    sample = SoftTargetSample("one", features, records, {2.0: content})
    write_shard(tmp_path / "dev-000000.tar", iter([sample]), "transform")
    identity = {
        "codec": config.model_dump(),
        "average": average,
        "temperatures": [2.0],
        "num_pdfs": NUM_PDFS,
        "features": {"num_mel_bins": NUM_BINS},
    }
    shard = {"file": "dev-000000.tar", "lengths": [50], "num_aligned": [50]}
    write_index(tmp_path, {"dev": [shard]}, identity)
    reader = ShardReader(tmp_path)
    if not is_served:
        with pytest.raises(ContractError, match="no targets at T=5, stored: T=2"):
            reader.load("dev", 5.0)
        return
    for temperature in (2.0, 5.0, 1.0):
        targets = reader.load("dev", temperature).soft_targets
        assert targets is not None
        found = targets.take(torch.arange(50)[None])
        assert isinstance(found, torch.Tensor)
        expected = soft ** (2 / temperature)
        np.testing.assert_allclose(found[0], expected / expected.sum(1, keepdims=True), atol=0.02)


def test_a_missing_shard_is_refused(shards_dir: Path) -> None:
    (shards_dir / "train-000001.tar").unlink()
    with pytest.raises(ContractError, match=r"train-000001\.tar: not found"):
        read_all(shards_dir, 1.0)


@pytest.mark.parametrize("position", [0, 600, -1])
def test_a_damaged_shard_is_refused(shards_dir: Path, position: int) -> None:
    path = shards_dir / "train-000000.tar"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(ContractError, match=r"train-000000\.tar: its SHA-256 is not the one"):
        read_all(shards_dir, 1.0)


def test_a_truncated_shard_is_refused(shards_dir: Path) -> None:
    path = shards_dir / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(ContractError, match="SHA-256"):
        ShardReader(shards_dir).load("train", 1.0)


@given(num_frames=st.lists(st.integers(0, 50), max_size=40), frames_a_shard=st.integers(1, 120))
def test_a_plan_covers_every_utterance_once(num_frames: list[int], frames_a_shard: int) -> None:
    plan = plan_shards(num_frames, frames_a_shard)
    assert [utterance for shard in plan for utterance in shard] == list(range(len(num_frames)))
    sizes = [[num_frames[utterance] for utterance in shard] for shard in plan]
    assert all(sizes)
    # All but the last are full, and none would be without its last utterance.
    assert all(sum(shard) >= frames_a_shard for shard in sizes[:-1])
    assert all(sum(shard[:-1]) < frames_a_shard for shard in sizes)
