"""One module per kind of place that models come from, each yielding records."""
