"""The report: results, learning curves, tuning, an alignment, costs; as text, Markdown, HTML and JSON."""
