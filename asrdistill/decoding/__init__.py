"""From scores to words: n-gram language model, decoding graph, search, lattices."""
