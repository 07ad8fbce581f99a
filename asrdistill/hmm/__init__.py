"""Hidden Markov models: topology, tied states, GMM training from a flat start, alignment."""
