"""What the bytes of soft targets buy: students of several codecs, several seeds each, trained and scored.

All students of one codec are trained as one stack, like the experiment's own of its first hard weight; codecs
are written anew from the experiment's dense shards. Everything lies in EXP/codecs/, a folder a codec; an
interrupted comparison goes on.
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asrdistill.errors import ContractError
from asrdistill.experiment import Experiment, write_json
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.trained import train_once
from asrdistill.progress import say
from asrdistill.recipe import Recipe
from asrdistill.scoring.scorer import Scorer
from asrdistill.scoring.systems import NetworkSystem
from asrdistill.stages.student import Student, make_trainer
from asrdistill.targets.codecs import CodecConfig, DenseConfig, SampledConfig, TopKConfig, describe_codec
from asrdistill.targets.rewriting import rewrite
from asrdistill.targets.shards import ShardReader
from asrdistill.targets.transform import TransformConfig

COMPARED: tuple[CodecConfig, ...] = (
    DenseConfig(),
    TransformConfig(),
    TransformConfig(step=0.1, correction=None),
    SampledConfig(num_draws=16),
    TopKConfig(num_kept=16),
)


def compare_codecs(
    recipe: Recipe, experiment: Experiment, codecs: Sequence[CodecConfig], num_seeds: int
) -> Path:
    """Train and score students of each codec.

    Args:
        recipe: of the experiment.
        experiment: whose soft targets are dense; all stages but the report are finished.
        codecs: to be compared; none: `COMPARED`.
        num_seeds: students of each.

    Returns:
        Path of codecs.json: of these codecs, and of others that were measured alike before, what
        `ShardReader.count_bytes` gives, and frame accuracy and WER of its students.

    Raises:
        ContractError: the soft targets are not there, or not dense; or no student is asked for.
    """
    if num_seeds < 1:
        raise ContractError(f"compare-codecs: --num-seeds is {num_seeds}, expected 1 or more")
    source = ShardReader(experiment.dir / "soft_targets/shards")
    if source.codec_config.kind != "dense":
        raise ContractError(
            f"soft targets {source.shards_dir}: codec {source.codec_config.kind}; codecs are compared with "
            "dense soft targets, which the others are made from: dump with soft_targets.codec.kind=dense"
        )
    folder = experiment.dir / "codecs"
    comparison = _Comparison(recipe, experiment, source, num_seeds)
    for config in codecs or COMPARED:
        comparison.measure(config, folder / _name(config))
    path = folder / "codecs.json"
    write_json(path, {"index_sha256": source.index["sha256"], "codecs": comparison.gather(folder)})
    return path


def _name(config: CodecConfig) -> str:
    """Of a folder: `transform_step_0.1_correction_null`."""
    return "_".join(re.findall(r"[\w.]+", describe_codec(config))[1:])


class _Comparison:
    """Trains and scores students of one experiment's soft targets.

    Attributes:
        training: what students depend on, whatever their codec.
        scoring: what their results depend on besides.
    """

    def __init__(self, recipe: Recipe, experiment: Experiment, source: ShardReader, num_seeds: int) -> None:
        self.recipe, self.experiment, self.source = recipe, experiment, source
        self.hard_weight = recipe.student.hard_weight[0]
        self.seeds = [recipe.student.seed + number for number in range(num_seeds)]
        self.training: dict[str, Any] = {
            "version": 2,  # of what lies in a codec's folder
            "index_sha256": source.index["sha256"],
            "hard_weight": self.hard_weight,
            "temperature": recipe.student.temperature,
            "seeds": self.seeds,
            "training": recipe.student.training.model_dump(mode="json"),
            "model": recipe.student_model.model_dump(mode="json"),
            "frame_weights": recipe.student.frame_weights,
        }
        # How words are decoded: the score stage, which is finished, depends on just that.
        stamp = experiment.stamp_of("score")
        assert stamp is not None
        self.scoring = {"settings": stamp["settings"], "reads": stamp["reads"]}

    def measure(self, config: CodecConfig, folder: Path) -> None:
        """Train and score the students of one codec, unless that is done."""
        name, asked = describe_codec(config), folder / "asked.json"
        wanted = self._ask(config.model_dump(mode="json"))
        if _read(asked) != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            write_json(asked, wanted)
        path = folder / "result.json"
        if (_read(path) or {}).get("scoring") == self.scoring:
            say(f"{name}: measured already")
            return
        say(f"{name}: {len(self.seeds)} students")
        shards = self.source
        if config.kind != "dense":
            rewrite(self.source, folder / "shards", config)
            shards = ShardReader(folder / "shards")
        model = self._train(shards, folder)
        result = {
            "codec": config.model_dump(mode="json"),
            "name": name,
            **shards.count_bytes(),
            "students": self._score(model, folder),
            "scoring": self.scoring,
        }
        write_json(path, result)

    def gather(self, folder: Path) -> list[dict[str, Any]]:
        """The results of all codecs that are measured alike."""
        found = []
        for path in sorted(folder.glob("*/result.json")):
            result = _read(path) or {}
            is_alike = result.pop("scoring", None) == self.scoring
            if is_alike and _read(path.with_name("asked.json")) == self._ask(result["codec"]):
                found.append(result)
        return found

    def _ask(self, codec: dict[str, Any]) -> dict[str, Any]:
        """What the students of a codec depend on."""
        return {**self.training, "codec": codec}

    def _train(self, shards: ShardReader, folder: Path) -> AcousticModel:
        students = [Student(self.hard_weight, seed) for seed in self.seeds]
        student, model_config = self.recipe.student, self.recipe.student_model
        return train_once(
            folder / "model.safetensors",
            [str(one) for one in students],
            lambda checkpoint: make_trainer(shards, student, model_config, students, checkpoint, None),
        ).model

    def _score(self, model: AcousticModel, folder: Path) -> list[dict[str, Any]]:
        scorer = Scorer(self.recipe.decoding, self.experiment, folder)
        scored = [
            scorer.score(NetworkSystem(f"seed_{seed}", model.select_members([member]), scorer.log_priors))
            for member, seed in enumerate(self.seeds)
        ]
        wanted = ("frame_accuracy", "wer", "per")
        return [{key: system[key] for key in wanted if key in system} for system in scored]


def _read(path: Path) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found
