"""The command line: it only forwards to the library."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrdistill.errors import UserError

if TYPE_CHECKING:
    from asrdistill.experiment import Experiment
    from asrdistill.recipe import Recipe

DESCRIPTION = """\
Train an ensemble of ten speech-recognition acoustic models and distil it into one
(Hinton, Vinyals & Dean 2015, section 3)."""

EPILOG = """\
A run goes through nine stages; each leaves its results in EXP/<stage>/ and is skipped when they are there
and nothing that they depend on has changed:

  prepare       recordings and transcripts -> manifests and lexicon, checked
  features      -> 40 log-mel coefficients every 10 ms, normalised, in a memory-mapped store
  align         -> a tied HMM state for every frame, by GMM-HMMs trained from a flat start
  teachers      -> ten networks that differ only in the seed of their initial weights
  soft-targets  -> their averaged posteriors, in sharded webdataset files
  student       -> one network trained on soft and hard targets, from the shards alone
  controls      -> single models without soft targets, to compare it with, if the recipe asks for them
  score         -> frame accuracy, word and phone errors of each teacher, the ensemble, students and controls
  report        -> report.json, report.md, report.html

examples:
  asrdistill run espeak                         the built-in synthetic corpus, no download
  asrdistill run speechocean762 --set corpus.path=DIR
  asrdistill run my_recipe.yaml --stage align   up to the alignment
  asrdistill run espeak --set student.temperature=5 --set 'soft_targets.temperatures=[5]'
  asrdistill run espeak --force student         do the student again
  asrdistill status exp/espeak
  asrdistill align my_recipe.yaml --out DIR     words and phones in time, as CTM and TextGrid
  asrdistill tied-states exp/espeak S-IH+K      which tied states a triphone has, and why
  asrdistill decode exp/espeak ensemble --out DIR
  asrdistill distill --shards DIR --out DIR     a student from shards alone, a folder's or a URL's
  asrdistill plan exp/espeak                    what each codec of soft targets would cost and keep
  asrdistill compare exp/espeak exp/other       two experiments, system by system, with p-values
  asrdistill sweep methods --quick              every way of distilling, one table
  asrdistill augmentations exp/espeak           which of them stored soft targets stay right for
  asrdistill compare-codecs exp/espeak          students of each codec, trained and scored
  asrdistill rewrite exp/espeak --out DIR --add-teachers EXP
  asrdistill dump exp/espeak                    one more worker for the soft targets of a running experiment
  asrdistill verify exp/espeak                  are the shards what they should be? repair: make them so
"""

RUN_EPILOG = """\
RECIPE is a YAML file, or the name of one in pipelines/. Every setting is described there and in the report.
--set takes a setting's full name and a YAML value:
  --set teachers.training.num_epochs=12 --set 'student.hard_weight=[0.5,0.1]'
Interrupted at any time, the same command goes on where it stopped."""


def main() -> None:
    """Entry point of `asrdistill`."""
    arguments = _parse(sys.argv[1:])
    try:
        arguments.command(arguments)
    except UserError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _parse(words: list[str]) -> argparse.Namespace:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "asrdistill", description=DESCRIPTION, epilog=EPILOG, formatter_class=plain
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    run = commands.add_parser("run", help="run a recipe", epilog=RUN_EPILOG, formatter_class=plain)
    _add_recipe(run)
    run.add_argument("--stage", default="report", metavar="NAME", help="last stage to run (default: report)")
    run.add_argument(
        "--force", action="append", default=[], metavar="NAME", help="do this stage again; may be repeated"
    )
    run.set_defaults(command=_run)
    status = commands.add_parser("status", help="show an experiment's stages, progress, time and disk")
    _add_experiment(status)
    status.set_defaults(command=_show_status)
    _add_align(commands)
    _add_decode(commands)
    _add_states(commands)
    _add_distill(commands)
    _add_verify(commands)
    _add_plan(commands)
    _add_compare(commands)
    _add_compare_codecs(commands)
    _add_sweep(commands)
    _add_augmentations(commands)
    _add_rewrite(commands)
    _add_dump(commands)
    return parser.parse_args(words)


def _run(arguments: argparse.Namespace) -> None:
    from asrdistill.pipeline import find_stage, run_stages
    from asrdistill.reporting.table import render_table

    recipe, experiment = _load(arguments)
    last = find_stage(arguments.stage)
    run_stages(recipe, experiment, last, [find_stage(name) for name in arguments.force])
    if last == "report":
        report_dir = experiment.stage_dir("report")
        print(render_table(json.loads((report_dir / "report.json").read_text(encoding="utf-8"))))
        print(f"\nreport: {os.path.relpath(report_dir / 'report.html')} (also report.md, report.json)")


def _add_recipe(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", metavar="RECIPE", help="YAML file, or name of one in pipelines/")
    command.add_argument("--exp", type=Path, metavar="DIR", help="experiment folder (default exp/<recipe>)")
    _add_overrides(command, "a setting")


def _add_overrides(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help=f"override {what}; may be repeated",
    )


def _add_experiment(command: argparse.ArgumentParser) -> None:
    command.add_argument("experiment", type=Path, metavar="EXP", help="experiment, for example exp/espeak")


def _add_align(commands: Any) -> None:
    align = commands.add_parser(
        "align",
        help="align speech with its transcripts: CTM files and Praat TextGrids",
        description="Runs a recipe up to the align stage, and writes when each word and phone was spoken: "
        "DIR/<split>.words.ctm, DIR/<split>.phones.ctm and DIR/<split>/<utterance>.TextGrid.",
    )
    _add_recipe(align)
    align.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    align.set_defaults(command=_align)


def _add_decode(commands: Any) -> None:
    decode = commands.add_parser(
        "decode",
        help="write what a system understood: words with times and confidences, n-best lists",
        description="Decodes a split with weights tuned on dev: DIR/hypotheses.txt, DIR/nbest.jsonl, and for "
        "NIST's sclite words.ctm (with confidences), words.trn, reference.stm and reference.trn, which it "
        "counts the errors of: sctk sclite -s -r reference.stm stm -h words.ctm ctm",
    )
    _add_experiment(decode)
    decode.add_argument(
        "system",
        metavar="SYSTEM",
        help="aligner (Gaussian mixtures), teacher_00, ensemble, student_00, hard_targets_00, ...",
    )
    decode.add_argument("--split", choices=("dev", "test"), default="dev", help="default: dev")
    decode.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    decode.add_argument("--num-best", type=int, default=10, metavar="N", help="hypotheses in the list (10)")
    decode.set_defaults(command=_decode)


def _add_states(commands: Any) -> None:
    states = commands.add_parser(
        "tied-states",
        help="show an experiment's tied states, a triphone's, or a phone's trees",
        epilog="examples:\n  asrdistill tied-states exp/espeak\n"
        "  asrdistill tied-states exp/espeak S-IH+K\n"
        "  asrdistill tied-states exp/espeak --draw IH --out IH.svg",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_experiment(states)
    states.add_argument("triphone", nargs="?", metavar="LEFT-PHONE+RIGHT", help="leaf, questions and count")
    states.add_argument("--draw", metavar="PHONE", help="draw the phone's trees")
    states.add_argument("--out", type=Path, metavar="SVG", help="file for the drawing (default PHONE.svg)")
    states.set_defaults(command=_show_states)


def _add_distill(commands: Any) -> None:
    distill = commands.add_parser(
        "distill",
        help="train a student from a folder of shards, or its URL, with nothing else there",
        description="Trains what the student stage trains, from an experiment's soft_targets/shards alone: "
        "DIR/model.safetensors and DIR/curves.json. Shards at a URL are fetched to DIR/shards first. "
        "Interrupted at any time, the same command goes on.",
        epilog="examples:\n  asrdistill distill --shards exp/espeak/soft_targets/shards --out student\n"
        "  asrdistill distill --shards http://host/shards --recipe speechocean762 --out student \\\n"
        "      --set student.hard_weight=0.3",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    distill.add_argument("--shards", required=True, metavar="DIR|URL", help="folder with index.json")
    distill.add_argument("--recipe", metavar="RECIPE", help="whose settings of the student are meant (none)")
    distill.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the student")
    _add_overrides(distill, "a setting of the student")
    distill.set_defaults(command=_distill)


def _add_plan(commands: Any) -> None:
    plan = commands.add_parser(
        "plan",
        help="what each codec of soft targets would cost and keep, on some minutes of speech",
        description="Asks an experiment's teachers about some minutes of the training split and prints, for "
        "codecs from dense to a few bytes: bytes a frame, size and time of the whole dump, the "
        "Kullback-Leibler divergence from dense, the probability that is kept, how often the likeliest tied "
        "state is still the same, and the angle between a young student's gradient and the dense one. The "
        "cheapest codec within the budget is marked: an angle below 5 degrees, if none is given.",
    )
    _add_experiment(plan)
    plan.add_argument("--minutes", type=float, default=5, metavar="N", help="of speech (default: 5)")
    plan.add_argument("--max-gb", type=float, metavar="GB", help="the nearest to dense within this size")
    plan.add_argument("--max-kl", type=float, metavar="NATS", help="the smallest within this divergence")
    plan.set_defaults(command=_plan)


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser(
        "compare",
        help="compare two experiments on the same test utterances",
        description="Says in which settings two finished experiments differ, and for each system that both "
        "have how its frame accuracy, WER and PER on test differ: 95%% intervals over speakers, paired and "
        "unpaired, and p-values (McNemar, MAPSSWE; corrected for the number of systems). Nothing is run.",
        epilog="examples:\n"
        "  asrdistill compare exp/espeak exp/warm\n"
        "  asrdistill compare exp/espeak exp/warm --json difference.json\n\n"
        "exp/warm: copies of exp/espeak's first stages, run with other settings:\n"
        "  asrdistill run espeak --exp exp/warm --set 'soft_targets.temperatures=[5]' "
        "--set student.temperature=5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.add_argument("first", type=Path, metavar="EXP1", help="A: folder of an experiment")
    compare.add_argument("second", type=Path, metavar="EXP2", help="B: folder of another one")
    compare.add_argument("--json", type=Path, metavar="FILE", help="also write everything here")
    compare.set_defaults(command=_compare)


def _add_compare_codecs(commands: Any) -> None:
    compare = commands.add_parser(
        "compare-codecs",
        help="train and score students of several codecs of soft targets",
        description="Writes the soft targets of a finished experiment, which must be dense, by other codecs, "
        "trains students of each, alike but for their seeds, scores them on dev and test, and makes the "
        "report again, which shows frame accuracy and WER over bytes a frame. Results lie in EXP/codecs. "
        "Interrupted at any time, the same command goes on.",
        epilog="examples:\n"
        "  asrdistill run espeak --set soft_targets.codec.kind=dense\n"
        "  asrdistill compare-codecs exp/espeak --num-seeds 1\n"
        "  asrdistill compare-codecs exp/espeak --codec '{kind: dense}' --codec '{kind: sampled}'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_experiment(compare)
    compare.add_argument(
        "--codec",
        action="append",
        default=[],
        dest="codecs",
        metavar="YAML",
        help="to be compared; may be repeated (default: dense, and four that take 13 to 70 bytes a frame)",
    )
    compare.add_argument("--num-seeds", type=int, default=3, metavar="N", help="students of each (3)")
    compare.set_defaults(command=_compare_codecs)


def _add_sweep(commands: Any) -> None:
    sweep = commands.add_parser(
        "sweep",
        help="compare ways of distilling: students of every row of a grid, trained and scored",
        description="Runs the base recipe of a grid up to the soft targets, trains several students of every "
        "row, which share the teachers, scores them on dev and test, and writes one table and picture: "
        "EXP/sweep/sweep.json, sweep.md and sweep.html. Interrupted at any time, the same command goes on; a "
        "row that was changed is done again, the others stay.",
        epilog="examples:\n"
        "  asrdistill sweep methods --quick --set corpus.path=DIR\n"
        "  asrdistill sweep methods --part losses --set corpus.path=DIR\n"
        "  asrdistill sweep my_grid.yaml --exp exp/mine\n\n"
        "GRID declares recipe, set, num_seeds and rows; pipelines/methods.yaml is the one to copy.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sweep.add_argument("grid", metavar="GRID", help="YAML file, or the name of one in pipelines/: methods")
    sweep.add_argument("--exp", type=Path, metavar="DIR", help="experiment folder (default exp/<grid>)")
    sweep.add_argument("--quick", action="store_true", help="the small grid: few rows and epochs, one seed")
    sweep.add_argument("--part", metavar="NAME", help="only the rows of this part (default: all)")
    _add_overrides(sweep, "a setting of the base recipe")
    sweep.set_defaults(command=_sweep)


def _add_augmentations(commands: Any) -> None:
    augmentations = commands.add_parser(
        "augmentations",
        help="which augmentations of a student's frames the stored soft targets stay right for",
        description="Asks an experiment's teachers about some minutes of dev as they are and as each kind of "
        "augmentation changes them, and prints how far what they say moves: the Kullback-Leibler divergence "
        "in nats, how often the likeliest tied state is still the same, and the ensemble's frame accuracy. "
        "Where little moves, student.training.perturbation may have it with soft targets of the frames as "
        "they were; where much does, take soft_targets.num_views, for which the teachers are asked anew.",
    )
    _add_experiment(augmentations)
    augmentations.add_argument("--minutes", type=float, default=5, metavar="N", help="of speech (default: 5)")
    augmentations.set_defaults(command=_check_augmentations)


def _add_rewrite(commands: Any) -> None:
    rewrite = commands.add_parser(
        "rewrite",
        help="write shards anew: by another codec, or with more teachers in the average",
        description="Reads shards of codec dense or transform and writes new ones, from which `asrdistill "
        "distill` trains. Neither the old teachers nor the corpus are needed. Interrupted at any time, the "
        "same command goes on; several at once share the shards out.",
        epilog="examples:\n"
        "  asrdistill rewrite exp/espeak --out small --set soft_targets.codec.kind=sampled\n"
        "  asrdistill rewrite exp/espeak --out more --add-teachers exp/others\n\n"
        "exp/others: copies of exp/espeak/prepare, features and align, run with other seeds:\n"
        "  asrdistill run exp/espeak/recipe.yaml --exp exp/others --set teachers.seed=11 --stage teachers",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rewrite.add_argument("place", type=Path, metavar="EXP|DIR", help="experiment, or folder with index.json")
    rewrite.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the new shards")
    rewrite.add_argument(
        "--add-teachers", type=Path, metavar="EXP", help="experiment whose teachers are averaged with the old"
    )
    _add_overrides(rewrite, "a setting of soft_targets.codec (default: the codec of the old shards)")
    rewrite.set_defaults(command=_rewrite)


def _add_dump(commands: Any) -> None:
    dump = commands.add_parser(
        "dump",
        help="help with the soft targets of an experiment that is running elsewhere",
        description="Makes shards that no other worker is at, until all are there: on the same machine or on "
        "any that sees the experiment's folder, as many as you like, while the soft-targets stage runs.",
    )
    _add_experiment(dump)
    dump.set_defaults(command=_dump)


def _add_verify(commands: Any) -> None:
    verify = commands.add_parser(
        "verify",
        help="check every shard of an experiment, or of a folder of shards, against its index",
        description="Checksums, and that every utterance can be read and has as many frames as it should; "
        "of an experiment, also that its teachers say what is stored, for a few utterances.",
    )
    verify.add_argument("place", type=Path, metavar="EXP|DIR", help="experiment, or folder with index.json")
    verify.set_defaults(command=_verify)
    repair = commands.add_parser("repair", help="make those shards of an experiment again that are damaged")
    _add_experiment(repair)
    repair.set_defaults(command=_repair)


def _align(arguments: argparse.Namespace) -> None:
    from asrdistill.pipeline import run_stages
    from asrdistill.stages.align import check_exportable, export

    recipe, experiment = _load(arguments)
    check_exportable(recipe)
    run_stages(recipe, experiment, "align")
    export(recipe, experiment, arguments.out)


def _decode(arguments: argparse.Namespace) -> None:
    from asrdistill.pipeline import open_experiment
    from asrdistill.scoring.scorer import Scorer
    from asrdistill.scoring.transcripts import find_system, transcribe

    experiment, recipe = open_experiment(arguments.experiment)
    scorer = Scorer(recipe.decoding, experiment)
    system = find_system(experiment, scorer, arguments.system)
    shift_s = recipe.features.frame_shift_s
    transcribe(scorer, system, arguments.split, arguments.out, arguments.num_best, shift_s)


def _distill(arguments: argparse.Namespace) -> None:
    from asrdistill.recipe import find_recipe, load_student
    from asrdistill.stages.student import distill_alone

    config = load_student(arguments.recipe and find_recipe(arguments.recipe), arguments.overrides)
    print(distill_alone(arguments.shards, config, arguments.out))


def _plan(arguments: argparse.Namespace) -> None:
    from asrdistill.pipeline import open_experiment
    from asrdistill.stages.soft_targets import plan
    from asrdistill.targets.planning import choose, describe_codec, render

    experiment, recipe = open_experiment(arguments.experiment)
    costs = plan(recipe, experiment, arguments.minutes)
    max_bytes = None if arguments.max_gb is None else 1e9 * arguments.max_gb
    chosen = choose(costs, max_bytes, arguments.max_kl)
    print(render(costs, chosen))
    if chosen:
        print(f"\n--set 'soft_targets.codec={describe_codec(chosen.codec)}'")
    else:
        print("\nno codec is within the budget")


def _compare(arguments: argparse.Namespace) -> None:
    from asrdistill.experiment import write_json
    from asrdistill.experiment_comparison import compare_experiments
    from asrdistill.reporting.experiments import render_comparison

    compared = compare_experiments(arguments.first, arguments.second)
    if arguments.json:
        write_json(arguments.json, compared)
    print(render_comparison(compared))


def _compare_codecs(arguments: argparse.Namespace) -> None:
    from asrdistill.pipeline import compare_codecs_of
    from asrdistill.recipe import load_codec

    codecs = [load_codec([f"soft_targets.codec={text}"]) for text in arguments.codecs]
    print(compare_codecs_of(arguments.experiment, codecs, arguments.num_seeds))


def _check_augmentations(arguments: argparse.Namespace) -> None:
    from asrdistill.pipeline import check_augmentations_of
    from asrdistill.targets.augmentation_check import render

    print(render(check_augmentations_of(arguments.experiment, arguments.minutes)))


def _sweep(arguments: argparse.Namespace) -> None:
    from asrdistill.experiment import Experiment
    from asrdistill.pipeline import sweep_methods
    from asrdistill.reporting.methods import render_sweep_table
    from asrdistill.sweep.grid import Grid, find_grid

    grid = Grid(find_grid(arguments.grid), arguments.overrides, arguments.quick, arguments.part)
    experiment = Experiment((arguments.exp or Path("exp") / grid.name).absolute())
    folder = sweep_methods(grid, experiment)
    print(render_sweep_table(json.loads((folder / "sweep.json").read_text(encoding="utf-8"))))
    print(f"\npage: {os.path.relpath(folder / 'sweep.html')} (also sweep.md, sweep.json)")


def _rewrite(arguments: argparse.Namespace) -> None:
    from asrdistill.pipeline import rewrite_shards

    print(rewrite_shards(arguments.place, arguments.out, arguments.overrides, arguments.add_teachers))


def _dump(arguments: argparse.Namespace) -> None:
    from asrdistill.pipeline import help_dump

    help_dump(arguments.experiment)


def _verify(arguments: argparse.Namespace) -> None:
    from asrdistill.errors import ContractError
    from asrdistill.pipeline import find_shard_damage

    damage = find_shard_damage(arguments.place)
    for found in damage:
        print(f"{found.path}\n  {found.reason}")
    if damage:
        raise ContractError(
            f"{arguments.place}: {len(damage)} files are not what they should be; asrdistill repair EXP "
            "makes an experiment's again, asrdistill distill fetches those of a URL again"
        )
    print("all shards are what the index says")


def _repair(arguments: argparse.Namespace) -> None:
    from asrdistill.pipeline import repair_shards

    repaired = repair_shards(arguments.experiment)
    print("\n".join(f"made again: {path}" for path in repaired) or "no shard is damaged")


def _show_states(arguments: argparse.Namespace) -> None:
    from asrdistill.experiment import atomic_path
    from asrdistill.hmm.inventory import describe_inventory, describe_triphone
    from asrdistill.hmm.topology import TiedStates
    from asrdistill.reporting.tree_picture import draw_tree

    tied_states = TiedStates.read(arguments.experiment / "align/tied_states.json")
    if arguments.draw:
        drawing = draw_tree(tied_states, arguments.draw)
        out = arguments.out or Path(f"{arguments.draw}.svg")
        with atomic_path(out) as temporary:
            temporary.write_text(drawing, encoding="utf-8")
        print(out)
    elif arguments.triphone:
        print(describe_triphone(tied_states, arguments.triphone))
    else:
        print(describe_inventory(tied_states))


def _load(arguments: argparse.Namespace) -> "tuple[Recipe, Experiment]":
    from asrdistill.experiment import Experiment
    from asrdistill.recipe import find_recipe, load_recipe

    path = find_recipe(arguments.recipe)
    recipe = load_recipe(path, arguments.overrides)
    return recipe, Experiment((arguments.exp or Path("exp") / path.stem).absolute())


def _show_status(arguments: argparse.Namespace) -> None:
    from asrdistill.status import describe_status

    print(describe_status(arguments.experiment))


if __name__ == "__main__":
    main()
