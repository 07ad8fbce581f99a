"""The stages, in the order in which they run; each module has SETTINGS, READS, WRITES and `run`.

One that reads what a user gave may have `check`, which refuses it before an earlier result is removed.
SETTINGS: keys of the recipe that its result depends on; READS and WRITES: files, relative to the experiment.
A stage never imports another stage: they meet in files alone.
"""
