"""The recipe: the components' settings composed; read from YAML, overridden from the command line."""

import difflib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from asrdistill.config import Config, as_tuple
from asrdistill.corpus.config import CorpusConfig
from asrdistill.corpus.lexicon import LexiconConfig
from asrdistill.corpus.validation import ValidationConfig
from asrdistill.decoding.decoder import DecoderConfig
from asrdistill.decoding.graph import GraphConfig
from asrdistill.decoding.ngram import NgramConfig
from asrdistill.errors import RecipeError
from asrdistill.features.filterbank import FilterbankConfig
from asrdistill.hmm.config import AlignmentConfig
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.objective import GUIDED, AnnealingConfig, ExtraTermConfig
from asrdistill.nn.realignment import RealignmentConfig
from asrdistill.nn.sequence_term import SequenceConfig
from asrdistill.nn.soft_terms import CrossEntropyConfig, SoftTermConfig
from asrdistill.nn.training import TrainingConfig
from asrdistill.scoring.scorer import DecodingConfig
from asrdistill.scoring.tuning import TuningConfig
from asrdistill.targets.codecs import CodecConfig
from asrdistill.targets.shards import WHY_NOT_ANY, SoftTargetsConfig, Weighting

AConfig = TypeVar("AConfig", bound=Config)

ControlKind = Literal["hard_targets", "label_smoothing", "equal_compute"]
# Sections of which there are several kinds, by their name.
KINDS = {
    "corpus": ("espeak", "kaldi", "nemo", "librispeech"),
    "codec": ("dense", "top_k", "sampled", "transform"),
    "soft_term": ("cross_entropy", "conditional", "decoupled", "correlation"),
    "extra_terms": ("hidden_states", "relations", "shallow_heads", "sequence"),
}
TAGS = {kind for kinds in KINDS.values() for kind in kinds}
PIPELINES_DIR = Path(__file__).parent.parent / "pipelines"


# Why an utterance has no alignment.
NOT_IMPORTED = "no alignment in the imported files"
TOO_FEW_FRAMES = "too few frames for the transcript"


class TeachersConfig(Config):
    """The ensemble: models of one architecture that differ in seed, or in how they see the data."""

    num_teachers: int = Field(10, ge=1, description="members of the ensemble")
    seed: int = Field(1, ge=0, description="the first member's seed; the others count up from it")
    diversity: Annotated[tuple[Literal["seed", "order", "subset"], ...], BeforeValidator(as_tuple)] = Field(
        ("seed",),
        min_length=1,
        description="what distinguishes the members; seed: initial weights and dropout, as in the paper; "
        "order: the order of the frames; subset: how often each utterance counts (bagging); or several",
    )
    model: AcousticModelConfig = Field(AcousticModelConfig(), description="architecture of every member")
    training: TrainingConfig = Field(TrainingConfig(), description="how they are trained")


class StudentConfig(Config):
    """The distilled model."""

    hard_weight: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], BeforeValidator(as_tuple)] = (
        Field(
            (0.5,),
            min_length=1,
            description="weight of the hard targets in the loss; several: one student each, and dev chooses; "
            "a model on hard targets alone is a control (controls.kinds)",
        )
    )
    temperature: float = Field(
        2.0, gt=0, description="T of the soft targets; one of soft_targets.temperatures"
    )
    seed: int = Field(101, ge=0, description="of the students' initial weights; more seeds count up from it")
    num_seeds: int = Field(
        1, ge=1, description="students of the weight that dev chose, for a mean and its spread"
    )
    frame_weights: Weighting = Field(
        "none",
        description="how much a frame counts in training; votes: the share of teachers that agree on it; "
        "distance: one minus how far they are from each other; none: all the same",
    )
    soft_term: SoftTermConfig = Field(CrossEntropyConfig(), description="how soft targets are learnt from")
    extra_terms: tuple[ExtraTermConfig, ...] = Field((), description="what else is added to the loss")
    annealing: AnnealingConfig = Field(
        AnnealingConfig(), description="where hard weight and temperature are at the end of training"
    )
    initial_weights: Literal["drawn", "guide"] = Field(
        "drawn",
        description="drawn: by the seed; guide: those of the teacher that soft_targets.guide names, every "
        "other layer or a part of the units where the student is smaller",
    )
    train_share: float = Field(
        1.0, gt=0, le=1, description="share of the training utterances that is used, drawn by the seed"
    )
    uses_untranscribed: bool = Field(
        True, description="whether speech without transcripts, which has soft targets alone, is trained on"
    )
    model: AcousticModelConfig | None = Field(None, description="architecture; none: that of one teacher")
    training: TrainingConfig = Field(
        TrainingConfig(),
        description="how it is trained; frames that are perturbed here have the soft targets of those that "
        "are not",
    )

    @model_validator(mode="after")
    def _check_hard_weights(self) -> Self:
        if len(set(self.hard_weight)) < len(self.hard_weight):
            raise ValueError(
                f"student.hard_weight is {list(self.hard_weight)}: each weight is to be given once"
            )
        if 1 in self.hard_weight:
            raise ValueError(
                "student.hard_weight is 1, where no soft target counts; expected less than 1: a model on "
                "hard targets alone is a control, controls.kinds=hard_targets"
            )
        return self

    @model_validator(mode="after")
    def _check_seeds(self) -> Self:
        if self.num_seeds > 1 and self.initial_weights == "guide" and not self.training.dropout:
            raise ValueError(
                f"student.num_seeds is {self.num_seeds}, but students that start from the guide and drop no "
                "units are one and the same; set student.num_seeds=1, or student.training.dropout"
            )
        return self

    @property
    def needs_guide(self) -> bool:
        """Whether a teacher's weights are to be at hand."""
        return self.initial_weights == "guide" or self.has_guided_terms

    @property
    def has_sequences(self) -> bool:
        """Whether paths through whole utterances are learnt from."""
        return any(isinstance(term, SequenceConfig) for term in self.extra_terms)

    @property
    def has_guided_terms(self) -> bool:
        """Whether a teacher is asked in every step of training."""
        return any(isinstance(term, GUIDED) for term in self.extra_terms)


class ControlsConfig(Config):
    """Single models without soft targets, trained for comparison."""

    kinds: Annotated[tuple[ControlKind, ...], BeforeValidator(as_tuple)] = Field(
        (),
        description="hard_targets: the student's own training on hard targets alone; label_smoothing: the "
        "same, with smoothed targets; equal_compute: a teacher's training on as many frames as the student",
    )
    num_seeds: int = Field(1, ge=1, description="models of each kind")
    label_smoothing: float = Field(
        0.1, gt=0, lt=1, description="share of a hard target that is divided equally among all tied states"
    )

    @model_validator(mode="after")
    def _check_kinds(self) -> Self:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"controls.kinds is {list(self.kinds)}: each kind is to be given once")
        return self


class Recipe(Config):
    """Everything that an experiment depends on."""

    name: str = Field("", description="of the recipe; none: that of its file")
    corpus: CorpusConfig = Field(description="where speech and transcripts come from")
    lexicon: LexiconConfig = Field(LexiconConfig(), description="where pronunciations come from")
    validation: ValidationConfig = Field(
        ValidationConfig(), description="how much may be wrong with a corpus"
    )
    features: FilterbankConfig = Field(FilterbankConfig(), description="how frames are computed")
    alignment: AlignmentConfig = Field(AlignmentConfig(), description="how frames get their hard targets")
    realignment: RealignmentConfig = Field(
        RealignmentConfig(), description="a second alignment, by a network"
    )
    teachers: TeachersConfig = Field(TeachersConfig(), description="the ensemble")
    soft_targets: SoftTargetsConfig = Field(
        SoftTargetsConfig(), description="what the ensemble's average is stored as"
    )
    student: StudentConfig = Field(StudentConfig(), description="the distilled model")
    controls: ControlsConfig = Field(
        ControlsConfig(), description="models without soft targets, to compare it with"
    )
    language_model: NgramConfig = Field(NgramConfig(), description="words' probabilities in decoding")
    graph: GraphConfig = Field(GraphConfig(), description="decoding graph")
    decoder: DecoderConfig = Field(DecoderConfig(), description="search")
    tuning: TuningConfig = Field(TuningConfig(), description="weights that are tuned on dev")

    @model_validator(mode="after")
    def _check_diversity(self) -> Self:
        if "order" in self.teachers.diversity and self.teachers.model.architecture != "dnn":
            raise ValueError(
                f"teachers.diversity has order, but a {self.teachers.model.architecture} reads whole "
                "utterances in batches that all members share; take seed or subset, or "
                "teachers.model.architecture=dnn"
            )
        return self

    @model_validator(mode="after")
    def _check_temperature(self) -> Self:
        stored = self.soft_targets.temperatures
        if self.student.temperature not in stored and not self.soft_targets.serves_any_temperature:
            raise ValueError(
                f"student.temperature is {self.student.temperature:g}, but soft targets are stored for "
                f"{', '.join(f'{t:g}' for t in stored)}: {WHY_NOT_ANY}"
            )
        return self

    @model_validator(mode="after")
    def _check_annealing(self) -> Self:
        final = self.student.annealing.temperature
        if final is not None and not self.soft_targets.serves_any_temperature:
            raise ValueError(
                f"student.annealing.temperature is {final:g}: that takes soft targets that serve any, with "
                "soft_targets.average geometric and the codec {kind: transform, correction: null}"
            )
        return self

    @model_validator(mode="after")
    def _check_guide(self) -> Self:
        guide, student = self.soft_targets.guide, self.student
        if guide is not None and guide >= self.teachers.num_teachers:
            raise ValueError(
                f"soft_targets.guide is {guide}, but the teachers are numbered from 0 to "
                f"{self.teachers.num_teachers - 1}"
            )
        if student.needs_guide and guide is None:
            raise ValueError(
                "student.extra_terms or student.initial_weights needs a teacher's weights beside the shards; "
                "set soft_targets.guide to its number, for example 0"
            )
        return self

    @model_validator(mode="after")
    def _check_soft_term(self) -> Self:
        codec, term = self.soft_targets.codec, self.student.soft_term
        needs_all = not isinstance(term, CrossEntropyConfig) or self.student.has_sequences
        if needs_all and codec.kind not in ("dense", "transform"):
            raise ValueError(
                f"soft_targets.codec.kind is {codec.kind}, which keeps only some tied states of a frame; "
                "student.soft_term and student.extra_terms need all: take dense or transform"
            )
        return self

    @model_validator(mode="after")
    def _check_sequences(self) -> Self:
        if self.student.has_sequences and self.student_model.architecture == "dnn":
            raise ValueError(
                "student.extra_terms has kind sequence, but a dnn is trained on single frames in random "
                "order; take student.model.architecture=tdnn or conformer"
            )
        return self

    @model_validator(mode="after")
    def _check_realignment(self) -> Self:
        imported = self.alignment.imported
        if self.realignment.realign == "dnn" and imported and imported.kind == "kaldi":
            raise ValueError(
                "realignment.realign is dnn, but alignment.imported.kind is kaldi: which phones its pdf-ids "
                "belong to is not known here, so transcripts cannot be aligned with them; take "
                "realignment.realign=none, or kind ctm or textgrid"
            )
        return self

    @property
    def why_unaligned(self) -> str:
        """Why an utterance has no alignment in the end."""
        is_imported = self.alignment.imported and self.realignment.realign == "none"
        return NOT_IMPORTED if is_imported else TOO_FEW_FRAMES

    @property
    def decoding(self) -> DecodingConfig:
        return DecodingConfig(self.language_model, self.graph, self.decoder, self.tuning)

    @property
    def student_model(self) -> AcousticModelConfig:
        return self.student.model or self.teachers.model


def list_recipes() -> list[Path]:
    """Those in `pipelines/`, where grids of sweeps lie too."""
    found = []
    for path in sorted(PIPELINES_DIR.glob("*.yaml")):
        with suppress(RecipeError):  # what is no YAML is no recipe either
            if not _is_grid(_read_yaml(path)):
                found.append(path)
    return found


def _is_grid(values: dict[str, Any]) -> bool:
    return "rows" in values and "recipe" in values


def find_recipe(name: str) -> Path:
    """The file of a recipe given by path, or by name as in `pipelines/`.

    Raises:
        RecipeError: there is no such recipe.
    """
    for path in (Path(name), PIPELINES_DIR / f"{name}.yaml"):
        if path.is_file():
            return path
    known = [path.stem for path in list_recipes()]
    nearest = difflib.get_close_matches(Path(name).stem, known, 1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise RecipeError(
        f"recipe {name}: no such file, and no recipe of that name in {PIPELINES_DIR}{hint} "
        f"(known: {', '.join(known)}; or give the path of a YAML file)"
    )


def load_student(path: Path | None, overrides: Sequence[str] = ()) -> StudentConfig:
    """The student's section of a recipe, or its defaults, with overrides such as `student.temperature=5`.

    Raises:
        RecipeError: as `load_recipe` does.
    """
    values = _read_yaml(path) if path else {}
    values = {"student": values.get("student") or {}}
    for override in overrides:
        if not override.startswith("student."):
            raise RecipeError(
                f"--set {override}: shards are made already, so that only settings of the student count, "
                "for example student.hard_weight=0.5"
            )
        _apply_override(values, override)
    return _validate(StudentConfig, values["student"], ("student",), path or "student")


def load_codec(overrides: Sequence[str]) -> CodecConfig:
    """A codec from overrides such as `soft_targets.codec.kind=top_k`.

    Raises:
        RecipeError: as `load_recipe` does.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        if not override.startswith(("soft_targets.codec.", "soft_targets.codec=")):
            raise RecipeError(
                f"--set {override}: only a codec is to be chosen here, for example "
                "soft_targets.codec.kind=transform"
            )
        _apply_override(values, override)
    read = _validate(SoftTargetsConfig, values.get("soft_targets", {}), ("soft_targets",), "--set")
    return read.codec


def _validate(kind: type[AConfig], values: Any, place: tuple[str, ...], source: Path | str) -> AConfig:
    """A part of a recipe.

    Raises:
        RecipeError: as `load_recipe` does.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        located = [{**found, "loc": (*place, *found["loc"])} for found in error.errors()]
        raise RecipeError(f"{source}: " + "; ".join(map(_explain, located))) from error


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides such as `student.temperature=5`.

    Raises:
        RecipeError: not YAML, an unknown key, or a value of the wrong kind: names file, key, value, what was
            expected and the nearest valid key.
    """
    values = {"name": path.stem, **_read_yaml(path)}
    if _is_grid(values):
        raise RecipeError(f"recipe {path}: a grid of a sweep; run it with asrdistill sweep {path}")
    for override in overrides:
        _apply_override(values, override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"recipe {path}: " + "; ".join(map(_explain, error.errors()))) from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"recipe {path}: not readable as YAML: {_on_one_line(error)}; correct the file"
        ) from error
    if not isinstance(values, dict):
        found = "nothing" if values is None else repr(values)
        raise RecipeError(f"recipe {path}: found {found}, expected lines `section: ...` such as `corpus:`")
    return values


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set {override}: expected key=value, for example student.temperature=5")
    *sections, last = key.split(".")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        inner = values[section]
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {override}: {section} is a value ({inner!r}), not a section")
        values = inner
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(
            f"--set {override}: the value is not readable as YAML: {_on_one_line(error)}"
        ) from error


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _explain(error: Any) -> str:
    """One of pydantic's errors in words: key, value, expectation, nearest valid key."""
    keys = [str(part) for part in error["loc"]]
    key = ".".join(part for part in keys if part not in TAGS) or "recipe"
    if error["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(keys[-1], _keys_at(keys[:-1]), 1)
        known = f"did you mean {nearest[0]}?" if nearest else f"known here: {', '.join(_keys_at(keys[:-1]))}"
        return f"unknown key {key} (value {error['input']!r}); {known}"
    if error["type"] == "missing":
        return f"{key} is not set; add it to the recipe, or give it with --set {key}=..."
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        found = error["ctx"].get("tag", "nothing")
        section = next(name for name in KINDS if name in keys)
        return f"{key}.kind: found {found}; expected one of {', '.join(KINDS[section])}"
    if error["type"] == "model_attributes_type":
        return f"{key}: found {error['input']!r}; expected a section that has a kind, such as {{kind: ...}}"
    if error["type"] == "model_type":
        return f"{key}: found {error['input']!r}; expected a section with some of {', '.join(_keys_at(keys))}"
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"])
        return message if key == "recipe" or message.startswith(f"{key}.") else f"{key}: {message}"
    return f"{key}: found {error['input']!r}; {error['msg']}"


def _keys_at(location: Sequence[str]) -> list[str]:
    """Valid keys of the section at `location`, from the recipe's JSON schema."""
    schema = Recipe.model_json_schema()
    here: Any = schema
    for part in location:
        for option in _list_options(schema, here):
            if part in option.get("properties", {}):
                here = option["properties"][part]
            elif option.get("properties", {}).get("kind", {}).get("const") == part:
                here = option
            elif part.isdigit() and "items" in option:
                here = option["items"]
    return [key for option in _list_options(schema, here) for key in option.get("properties", {})]


def _list_options(schema: Any, node: Any) -> list[Any]:
    """What may stand at a node of a JSON schema, references resolved."""
    options = [node, *node.get("anyOf", []), *node.get("oneOf", [])]
    return [schema["$defs"][o["$ref"].split("/")[-1]] if "$ref" in o else o for o in options]
