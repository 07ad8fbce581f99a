"""The ensemble's averaged posteriors, with features and hard targets, to shards; goes on where it stopped."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asrdistill.corpus.source import UNTRANSCRIBED
from asrdistill.errors import ContractError
from asrdistill.experiment import Experiment, hash_file
from asrdistill.features.frame_store import FrameStore, list_store_files
from asrdistill.features.perturbation import perturb
from asrdistill.hmm.alignment import read_pdf_ids
from asrdistill.hmm.topology import NOT_ALIGNED, TiedStates
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.checkpoint import load_model, save_model
from asrdistill.nn.soft_targets import SoftTargets
from asrdistill.parallel import map_in_order
from asrdistill.progress import say, track
from asrdistill.recipe import Recipe
from asrdistill.targets.averaging import AVERAGING_RULES, Opinion, ask_teachers
from asrdistill.targets.claims import drop_leftovers, share_out
from asrdistill.targets.codebooks import provide_codecs
from asrdistill.targets.codecs import Codec, CodecConfig
from asrdistill.targets.planning import LADDER, Cost, Planner, Sample, fill_in
from asrdistill.targets.rewriting import AddedTeachers
from asrdistill.targets.shards import (
    FRAME_RECORD,
    GUIDE,
    ShardReader,
    SoftTargetSample,
    is_written_by,
    plan_shards,
    spread_utterances,
    write_index,
    write_shard,
)
from asrdistill.targets.verification import Damage

SPLITS = ("train", "dev")
# Of all threads together; an average and what writes it down take a part of that again.
MOST_LOGITS_BYTES = 4_000_000_000
# Frames that teachers are asked about at once: of single utterances they would read their weights as often.
FRAMES_AT_ONCE = 1500
# Utterances of a split that teachers are asked about again by `find_differences`.
NUM_CANARIES = 5
# Between soft targets of one ensemble on two machines; a rounded draw or coefficient may fall otherwise.
MOST_DISTANCE = 0.02
SETTINGS = ("soft_targets", "features")
READS = (
    "teachers/model.safetensors",
    "align/tied_states.json",
    *list_store_files((*SPLITS, UNTRANSCRIBED)),
    *(f"align/{split}.npy" for split in SPLITS),
)
WRITES = ("soft_targets/shards/",)


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Dump every shard that is not there yet, then the index."""
    shards_dir = experiment.stage_dir("soft_targets") / "shards"
    write_dump(recipe, experiment, experiment.dir / "teachers/model.safetensors", shards_dir)


def write_dump(recipe: Recipe, experiment: Experiment, teachers_path: Path, shards_dir: Path) -> None:
    """Dump what is not there yet of the soft targets of some teachers.

    Args:
        recipe: whose `soft_targets` are meant.
        experiment: with features and alignments.
        teachers_path: weights of the teachers.
        shards_dir: folder for the shards.
    """
    model, described = load_model(teachers_path)
    dumped = dump_shards(recipe, experiment, model, shards_dir)
    drop_leftovers(shards_dir)
    tied_states = TiedStates.read(experiment.dir / "align/tied_states.json")
    identity: dict[str, Any] = {
        "codec": recipe.soft_targets.codec.model_dump(mode="json"),
        "num_pdfs": tied_states.num_pdfs,
        "temperatures": list(recipe.soft_targets.temperatures),
        "average": recipe.soft_targets.average,
        "averaging": AVERAGING_RULES[recipe.soft_targets.average],
        "wrong_weight": recipe.soft_targets.wrong_weight,
        "teachers": _describe_teachers(teachers_path, model, described),
        "tied_states": {"sha256": hash_file(experiment.dir / "align/tied_states.json")},
        "num_views": recipe.soft_targets.num_views,
        "perturbation": recipe.soft_targets.perturbation.model_dump(mode="json"),
        "seed": recipe.soft_targets.seed,
        "hard_targets": {split: hash_file(experiment.dir / f"align/{split}.npy") for split in SPLITS},
        "features": recipe.features.model_dump(mode="json"),
    }
    guide = recipe.soft_targets.guide
    if guide is not None:
        save_model(shards_dir / GUIDE, model.select_members([guide]), {"teacher": guide})
        identity["guide"] = {"teacher": guide, "sha256": hash_file(shards_dir / GUIDE)}
    write_index(shards_dir, dumped, identity)


def dump_shards(
    recipe: Recipe,
    experiment: Experiment,
    model: AcousticModel,
    shards_dir: Path,
    check: Callable[[], None] = lambda: None,
) -> dict[str, list[dict[str, Any]]]:
    """Make shards until all are there, beside other workers.

    Args:
        recipe: of the experiment.
        experiment: whose features and alignments are meant.
        model: the teachers.
        shards_dir: folder for the shards.
        check: raises an error where a shard that is ready is not wanted any more.

    Returns:
        What the index is to say of the shards, by split.
    """
    dumps = {split: _Dump(recipe, experiment, split, model) for split in SPLITS}
    config, train = recipe.soft_targets, dumps["train"]
    codecs = provide_codecs(shards_dir, config.codec, config.temperatures, train.draw_sample)
    return {split: _dump_split(dump, split, shards_dir, codecs, check) for split, dump in dumps.items()}


def _dump_split(
    dump: "_Dump", split: str, shards_dir: Path, codecs: dict[float, Codec], check: Callable[[], None]
) -> list[dict[str, Any]]:
    num_frames = [dump.num_frames(sample) for sample in dump.samples]
    plan = plan_shards(num_frames, dump.config.frames_a_shard)
    names = [f"{split}-{number:06d}.tar" for number in range(len(plan))]
    # A shard is published whole or not at all, so one that is there is complete; but a codebook that was lost
    # and learnt again may be another one.
    there = [shards_dir / name for name in names if (shards_dir / name).is_file()]
    for path in [path for path in there if not is_written_by(path, codecs)]:
        say(f"  {path.name}: damaged, or written with another codebook; it is made again")
        path.unlink()
    done = sum((shards_dir / name).is_file() for name in names)
    if done:
        say(f"  {split}: {done} of {len(names)} shards are there already")
    extension = next(iter(codecs.values())).extension
    planned = dict(zip(names, plan, strict=True))
    for name in track(share_out(shards_dir, names), f"soft targets {split}", len(names) - done, "shard"):
        write_shard(shards_dir / name, dump.compute_all(planned[name], codecs, check), extension)
    return [
        {
            "file": name,
            "lengths": [num_frames[number] for number in samples],
            "num_aligned": [dump.count_aligned(dump.samples[number]) for number in samples],
        }
        for name, samples in zip(names, plan, strict=True)
    ]


class _Speech:
    """The utterances of a split, numbered, and after those of the training split the untranscribed ones.

    Attributes:
        ids: of all utterances.
        lengths: their frames, int64.
    """

    def __init__(self, experiment: Experiment, split: str) -> None:
        features_dir = experiment.stage_dir("features")
        self._store = FrameStore(features_dir, split)
        self._pdf_ids = read_pdf_ids(experiment.stage_dir("align"), split, self._store.num_frames)
        self.ids, self.lengths = list(self._store.utterance_ids), np.diff(self._store.starts)
        if split == "train":
            self._untranscribed = FrameStore(features_dir, UNTRANSCRIBED)
            self.ids += self._untranscribed.utterance_ids
            self.lengths = np.concatenate([self.lengths, np.diff(self._untranscribed.starts)])

    def __len__(self) -> int:
        return len(self.ids)

    def frames_of(self, number: int) -> np.ndarray:
        """Frames of an utterance, float16 (frames, bins)."""
        num_transcribed = len(self._store)
        if number < num_transcribed:
            return self._store.frames_of(number)
        return self._untranscribed.frames_of(number - num_transcribed)

    def pdf_ids_of(self, number: int) -> np.ndarray:
        """Its hard targets, int32 (frames,); -1 where there is none."""
        if number < len(self._store):
            return self._pdf_ids[self._store.starts[number] : self._store.starts[number + 1]]
        return np.full(self.lengths[number], NOT_ALIGNED, np.int32)


class _Dump:
    """Computes the samples of one split.

    Attributes:
        speech: the split's utterances.
        samples: utterance number and view of each; view 0 is the utterance as it is.
    """

    def __init__(self, recipe: Recipe, experiment: Experiment, split: str, model: AcousticModel) -> None:
        self.speech = _Speech(experiment, split)
        self.model = model.in_compute_dtype()
        self.config = recipe.soft_targets
        num_views = self.config.num_views if split == "train" else 0
        self.samples = [(number, view) for view in range(num_views + 1) for number in range(len(self.speech))]

    def num_frames(self, sample: tuple[int, int]) -> int:
        """Of a sample."""
        return int(self.speech.lengths[sample[0]])

    def count_aligned(self, sample: tuple[int, int]) -> int:
        """Frames of a sample that have a hard target."""
        return int(np.count_nonzero(self.speech.pdf_ids_of(sample[0]) != NOT_ALIGNED))

    def compute_all(
        self, numbers: range, codecs: dict[float, Codec], check: Callable[[], None]
    ) -> Iterator[SoftTargetSample]:
        """The samples of a shard; the check comes last, when the shard is about to be published."""
        groups = self._group([self.samples[number] for number in numbers])
        workers = self._count_workers(groups)
        for computed in map_in_order(partial(self.compute, codecs=codecs), groups, workers):
            yield from computed
        check()

    def _group(self, samples: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        """Samples about which the teachers are asked at once; a shard's, whoever makes it, are the same."""
        groups: list[list[tuple[int, int]]] = []
        room = 0
        for sample in samples:
            room -= self.num_frames(sample)
            if room < 0:
                groups.append([])
                room = FRAMES_AT_ONCE - self.num_frames(sample)
            groups[-1].append(sample)
        return groups

    def _count_workers(self, groups: Iterable[Sequence[tuple[int, int]]]) -> int:
        """Threads that each ask the teachers about one of these: as many as cores, but for their memory."""
        longest = max(sum(map(self.num_frames, group)) for group in groups)
        # Those of one teacher, and an average for each temperature; where they are weighed, of all teachers.
        is_plain = self.config.average == "arithmetic" and self.config.wrong_weight == 1
        num_rows = len(self.config.temperatures) + (1 if is_plain else self.model.num_members)
        logits_bytes = 4 * num_rows * longest * self.model.num_pdfs
        return max(1, min(torch.get_num_threads(), MOST_LOGITS_BYTES // logits_bytes))

    def ask(
        self, numbers: Sequence[int], frames: Sequence[np.ndarray], temperatures: tuple[float, ...]
    ) -> Opinion:
        """The teachers about some utterances, or views of them, whose frames follow each other."""
        pdf_ids = np.concatenate([self.speech.pdf_ids_of(number) for number in numbers])
        average, weight = self.config.average, self.config.wrong_weight
        return ask_teachers(self.model, frames, temperatures, average, pdf_ids, weight)

    def frames_of(self, sample: tuple[int, int]) -> np.ndarray:
        """Of an utterance, or of a perturbed view of it, float16."""
        number, view = sample
        frames = self.speech.frames_of(number)
        if not view:
            return frames
        rng = np.random.default_rng((self.config.seed, view, number))
        return perturb(frames, rng, self.config.perturbation).astype(np.float16)

    def draw_sample(self, wanted_frames: int) -> list[np.ndarray]:
        """Averages, float32 (T, N, P), of utterances from all over the split."""
        utterances = spread_utterances(self.speech.lengths, wanted_frames)
        averages = self.ask_all(utterances, self.config.temperatures)
        return list(track(averages, "codebook", len(utterances)))

    def ask_all(self, utterances: Sequence[int], temperatures: tuple[float, ...]) -> Iterator[np.ndarray]:
        """Averages, float32 (T, N, P), of some utterances."""
        return map_in_order(
            lambda number: self.ask([number], [self.speech.frames_of(number)], temperatures).averages,
            utterances,
            self._count_workers([[(number, 0)] for number in utterances]),
        )

    def compute(
        self, samples: Sequence[tuple[int, int]], codecs: dict[float, Codec]
    ) -> list[SoftTargetSample]:
        """Some samples, about which the teachers are asked at once."""
        frames = [self.frames_of(sample) for sample in samples]
        opinion = self.ask([number for number, _ in samples], frames, self.config.temperatures)
        ends = np.cumsum([0, *map(len, frames)]).tolist()
        return [
            self._write(sample, part, opinion.slice(slice(*span)), codecs)
            for sample, part, span in zip(samples, frames, pairwise(ends), strict=True)
        ]

    def _write(
        self, sample: tuple[int, int], frames: np.ndarray, opinion: Opinion, codecs: dict[float, Codec]
    ) -> SoftTargetSample:
        number, view = sample
        name, soft = self.speech.ids[number], {}
        for place, (average, (temperature, codec)) in enumerate(
            zip(opinion.averages, codecs.items(), strict=True)
        ):
            rng = np.random.default_rng((self.config.seed, view, number, place))
            soft[temperature] = codec.encode(average, rng)
        records = np.empty(len(frames), FRAME_RECORD)
        records["pdf_id"] = self.speech.pdf_ids_of(number)
        records["votes"], records["distance"] = opinion.votes, opinion.distance
        return SoftTargetSample(f"{name}~view{view}" if view else name, frames, records, soft)


def find_differences(recipe: Recipe, experiment: Experiment) -> list[Damage]:
    """Files that do not go together: a dump, and the teachers, features and alignments of its experiment.

    Compared are the identity of teachers and tied states, the lengths of all utterances, and of a few from
    all over each split what the teachers say of them now.
    """
    shards_dir = experiment.stage_dir("soft_targets") / "shards"
    reader = ShardReader(shards_dir)
    for what, path in (("teachers", "teachers/model.safetensors"), ("tied_states", "align/tied_states.json")):
        if hash_file(experiment.dir / path) != reader.index[what]["sha256"]:
            return [Damage(experiment.dir / path, "not the file that the shards were made from")]
    model, _ = load_model(experiment.dir / "teachers/model.safetensors")
    codecs = {t: reader.open_codec(t) for t in recipe.soft_targets.temperatures}
    damage = []
    for split in SPLITS:
        dump, shards = _Dump(recipe, experiment, split, model), reader.index["splits"][split]
        lengths = [length for shard in shards for length in shard["lengths"]]
        if lengths != [dump.num_frames(sample) for sample in dump.samples]:
            reason = f"{split}: other utterances, or other lengths, than features/{split}.json has"
            damage.append(Damage(shards_dir / "index.json", reason))
            continue
        ends = np.cumsum([len(shard["lengths"]) for shard in shards])
        for number in track(
            np.linspace(0, len(lengths) - 1, NUM_CANARIES).astype(int), f"ask teachers {split}"
        ):
            shard = int(np.searchsorted(ends, number, side="right"))
            place = int(number - ends[shard] + len(shards[shard]["lengths"]))
            (expected,) = dump.compute([dump.samples[number]], codecs)
            if not _is_stored(expected, reader, shards[shard], place):
                reason = f"utterance {expected.id}: the teachers of this experiment give other targets"
                damage.append(Damage(shards_dir / shards[shard]["file"], reason))
    return damage


def _is_stored(expected: SoftTargetSample, reader: ShardReader, shard: dict[str, Any], place: int) -> bool:
    """Whether a sample is what is stored at its place in a shard, but for how machines round."""
    for temperature, content in expected.soft_targets.items():
        found = next(islice(reader.samples(shard, temperature), place, None))
        if found.id != expected.id or not np.array_equal(found.records["pdf_id"], expected.records["pdf_id"]):
            return False
        if not np.allclose(found.features, expected.features, atol=0.01):
            return False
        codec = reader.open_codec(temperature)
        stored = codec.decode(found.soft_targets[temperature], len(found.features))
        wanted = codec.decode(content, len(found.features))
        if _find_distance(stored, wanted, reader.num_pdfs) > MOST_DISTANCE:
            return False
    return True


def _find_distance(one: SoftTargets, other: SoftTargets, num_pdfs: int) -> float:
    """Mean over frames of the total variation, from 0 to 1."""
    everything = torch.arange(len(one))[None]
    uniform = torch.full((1, len(one), num_pdfs), 1 / num_pdfs)
    # Draws may fall otherwise: how a frame is rounded says where.
    told = [fill_in(targets.without_corrections().take(everything), uniform) for targets in (one, other)]
    return float((told[0] - told[1]).abs().sum(2).mean() / 2)


def open_added_teachers(recipe: Recipe, experiment: Experiment, reader: ShardReader) -> AddedTeachers:
    """The teachers of an experiment, to be averaged with those of a dump.

    Raises:
        ContractError: they are of other tied states or features, or in the dump already.
    """
    path = experiment.dir / "teachers/model.safetensors"
    model, described = load_model(path)
    index = reader.index
    identity = _describe_teachers(path, model, described)
    known = [index["teachers"], *index["teachers"].get("added", [])]
    for what, theirs, ours in (
        ("tied states", hash_file(experiment.dir / "align/tied_states.json"), index["tied_states"]["sha256"]),
        ("features", recipe.features.model_dump(mode="json"), index["features"]),
    ):
        if theirs != ours:
            raise ContractError(
                f"{experiment.dir}: its teachers are of other {what} than the soft targets of "
                f"{reader.shards_dir}; train them in a copy of that experiment's folders prepare, features "
                "and align, with another teachers.seed"
            )
    for there in known:
        same = sorted(set(there["seeds"]) & set(identity["seeds"]))
        if same and there["model"] == identity["model"]:
            raise ContractError(
                f"{experiment.dir}: its teachers of seed {', '.join(map(str, same))} are in the soft targets "
                f"of {reader.shards_dir} already; train others, with another teachers.seed"
            )
    return AddedTeachers(model, identity)


def _describe_teachers(path: Path, model: AcousticModel, described: dict[str, Any]) -> dict[str, Any]:
    """What an index says of teachers."""
    return {
        "num_teachers": model.num_members,
        "model": model.config.model_dump(mode="json"),
        "seeds": list(described["seeds"]),
        "sha256": hash_file(path),
    }


def plan(recipe: Recipe, experiment: Experiment, minutes: float) -> list[Cost]:
    """Measure codecs on some minutes of the training split, for a dump of the experiment's teachers."""
    model, _ = load_model(experiment.dir / "teachers/model.safetensors")
    dump = _Dump(recipe, experiment, "train", model)
    if not 0 < minutes < math.inf:
        raise ContractError(f"plan: --minutes is {minutes:g}, expected some minutes of speech, such as 5")
    wanted_frames = 60 * minutes / recipe.features.frame_shift_s
    utterances = spread_utterances(dump.speech.lengths, wanted_frames)
    if len(utterances) < 2:
        raise ContractError(
            f"plan: {minutes:g} minutes are {len(utterances)} utterance, at least two are needed: one to "
            "learn from, one to measure; take more --minutes"
        )
    temperature = recipe.student.temperature
    first = utterances[0]
    dump.ask([first], [dump.speech.frames_of(first)], (temperature,))  # what is compiled the first time
    start = time.perf_counter()
    asked = track(dump.ask_all(utterances, (temperature,)), "ask teachers", len(utterances))
    averages = [of_temperatures[0] for of_temperatures in asked]
    num_frames = sum(map(len, averages))
    sample = Sample(
        [dump.speech.frames_of(number) for number in utterances],
        averages,
        (time.perf_counter() - start) / num_frames,
    )
    dev_frames = FrameStore(experiment.stage_dir("features"), "dev").num_frames
    corpus_frames = (1 + recipe.soft_targets.num_views) * int(dump.speech.lengths.sum()) + dev_frames
    num_temperatures = len(recipe.soft_targets.temperatures)
    planner = Planner(
        sample, recipe.student_model, recipe.student.training, temperature, corpus_frames, num_temperatures
    )
    say(f"  {num_frames:,} frames asked, half of them measured; {corpus_frames:,} to be dumped")
    serving = [config for config in LADDER if _serves(recipe, config)]
    return [planner.measure(config) for config in track(serving, "codecs", unit="codec")]


def _serves(recipe: Recipe, codec: CodecConfig) -> bool:
    """Whether a dump with this codec has soft targets for the student's temperature."""
    dumped = recipe.soft_targets.model_copy(update={"codec": codec})
    return recipe.student.temperature in dumped.temperatures or dumped.serves_any_temperature
