"""Utterances in: manifests, importers of corpora, synthesis, lexicon, validation."""
