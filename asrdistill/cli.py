"""The command line: it only forwards to the library."""

import argparse
import json
import os
import sys
from pathlib import Path

from asrdistill.errors import UserError

DESCRIPTION = """\
Train an ensemble of ten speech-recognition acoustic models and distil it into one
(Hinton, Vinyals & Dean 2015, section 3)."""

EPILOG = """\
A run goes through eight stages; each leaves its results in EXP/<stage>/ and is skipped when they are there
and nothing that they depend on has changed:

  prepare       recordings and transcripts -> manifests and lexicon, checked
  features      -> 40 log-mel coefficients every 10 ms, normalised, in a memory-mapped store
  align         -> a tied HMM state for every frame, by GMM-HMMs trained from a flat start
  teachers      -> ten networks that differ only in the seed of their initial weights
  soft-targets  -> their averaged posteriors, in sharded webdataset files
  student       -> one network trained on soft and hard targets, from the shards alone
  score         -> frame accuracy and word error rate of each teacher, the ensemble and the student
  report        -> report.json, report.md, report.html

examples:
  asrdistill run espeak                         the built-in synthetic corpus, no download
  asrdistill run speechocean762 --set corpus.path=DIR
  asrdistill run my_recipe.yaml --stage align   up to the alignment
  asrdistill run espeak --set student.temperature=5 --set 'soft_targets.temperatures=[5]'
  asrdistill run espeak --force student         do the student again
  asrdistill status exp/espeak
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
    run.add_argument("recipe", metavar="RECIPE", help="YAML file, or name of one in pipelines/")
    run.add_argument("--exp", type=Path, metavar="DIR", help="experiment folder (default exp/<recipe>)")
    run.add_argument("--stage", default="report", metavar="NAME", help="last stage to run (default: report)")
    run.add_argument(
        "--force", action="append", default=[], metavar="NAME", help="do this stage again; may be repeated"
    )
    run.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="override a setting; may be repeated",
    )
    run.set_defaults(command=_run)
    status = commands.add_parser("status", help="show an experiment's stages, progress, time and disk")
    status.add_argument(
        "experiment", type=Path, metavar="EXP", help="experiment folder, for example exp/espeak"
    )
    status.set_defaults(command=_show_status)
    return parser.parse_args(words)


def _run(arguments: argparse.Namespace) -> None:
    from asrdistill.experiment import Experiment
    from asrdistill.pipeline import find_stage, run_stages
    from asrdistill.recipe import find_recipe, load_recipe
    from asrdistill.reporting.table import render_table

    path = find_recipe(arguments.recipe)
    recipe = load_recipe(path, arguments.overrides)
    experiment = Experiment((arguments.exp or Path("exp") / path.stem).absolute())
    last = find_stage(arguments.stage)
    run_stages(recipe, experiment, last, [find_stage(name) for name in arguments.force])
    if last == "report":
        report_dir = experiment.stage_dir("report")
        print(render_table(json.loads((report_dir / "report.json").read_text(encoding="utf-8"))))
        print(f"\nreport: {os.path.relpath(report_dir / 'report.html')} (also report.md, report.json)")


def _show_status(arguments: argparse.Namespace) -> None:
    from asrdistill.status import describe_status

    print(describe_status(arguments.experiment))


if __name__ == "__main__":
    main()
