"""How good hypotheses and posteriors are: word errors, frame accuracy, tuning of the decoding weights."""
