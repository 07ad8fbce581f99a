"""Acoustic features: filterbank, normalisation, the frame store, context windows, cepstra."""
