"""How good hypotheses and posteriors are: word errors, frame accuracy, significance; tuning of weights."""
