"""Soft targets: averaging what the teachers predict, and the shards that carry it."""
