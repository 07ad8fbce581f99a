"""Acoustic models: the stacked ensemble, its loss, the one training loop, checkpoints."""
