"""A small recipe, a finished experiment of it, and the command line as a user meets it."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# Before torch is imported: results depend on the number of threads, and tests share the machine.
os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

TINY_RECIPE = """\
corpus:
  kind: espeak
  minutes: {train: 3, dev: 0.5, test: 0.5}
  num_speakers: {train: 6, dev: 2, test: 2}
alignment:
  gmm:
    monophone: {num_iterations: 10, num_gaussians: 300}
    triphone: {num_iterations: 4, realign_every: 2, num_gaussians: 400}
    lda_mllt: {num_iterations: 4, realign_every: 2, num_gaussians: 400, mllt_at: [2]}
    tied_states: {num_leaves: 150, min_occupancy: 30}
teachers:
  num_teachers: 3
  model: {num_hidden_layers: 2, hidden_size: 64}
  training: {num_epochs: 2, batch_size: 256, precision: fp32}
soft_targets: {frames_a_shard: 4000, num_views: 1, codec: {kind: dense}}
student:
  hard_weight: [0.5, 0.1]
  num_seeds: 2
  training: {num_epochs: 2, batch_size: 256, precision: fp32}
controls: {kinds: [hard_targets, label_smoothing, equal_compute]}
language_model: {smoothing: witten_bell} # networks trained so little get no word right with kneser_ney
decoder: {acoustic_scale: 0.3, beam: 5, lattice_beam: 3}
tuning: {acoustic_scales: [0.2, 0.3], insertion_penalties: [0.0, 1.0]}
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit status and what it printed."""

    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The paragraph that tells a user's error."""
        return self.stderr.rpartition("error: ")[2].rstrip("\n")


Command = Callable[..., Outcome]


@pytest.fixture
def asrdistill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, run in this process: `asrdistill("run", "espeak")`."""
    from asrdistill.cli import main

    def run(*words: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["asrdistill", *map(str, words)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        printed = capsys.readouterr()
        return Outcome(status, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def asrdistill_process() -> Command:
    """The command line in a process of its own."""

    def run(*words: str | Path) -> Outcome:
        command = [sys.executable, "-m", "asrdistill", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.fixture(scope="session")
def finished(
    tiny_recipe: Path, asrdistill_process: Command, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a finished experiment; only read it."""
    experiment_dir = tmp_path_factory.mktemp("finished") / "tiny"
    outcome = asrdistill_process("run", tiny_recipe, "--exp", experiment_dir)
    assert outcome.status == 0, outcome.stderr
    return experiment_dir


@pytest.fixture(scope="session")
def transformed(
    tiny_recipe: Path, finished: Path, asrdistill_process: Command, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An experiment up to its soft targets, which have a codebook."""
    copy = tmp_path_factory.mktemp("transformed") / "tiny"
    shutil.copytree(finished, copy)
    words = ("--set", "soft_targets.codec={kind: transform}", "--stage", "soft-targets")
    assert asrdistill_process("run", tiny_recipe, "--exp", copy, *words).status == 0
    return copy


@pytest.fixture
def finished_copy(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the finished experiment, to be worked on."""
    copy = tmp_path / "tiny"
    shutil.copytree(finished, copy)
    yield copy
    shutil.rmtree(copy)


Snapshot = dict[str, tuple[int, str]]


@pytest.fixture(scope="session")
def take_snapshot() -> Callable[[Path], Snapshot]:
    """Time and SHA-256 of every file in a folder; not of what each run writes anew."""

    def take(folder: Path) -> Snapshot:
        paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {
            str(path.relative_to(folder)): (
                path.stat().st_mtime_ns,
                hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            for path in paths
            if path.name not in (".lock", "recipe.yaml")
        }

    return take
