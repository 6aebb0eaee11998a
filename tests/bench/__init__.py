"""The benchmarks: the program and its peers in turn, on data made here; not part of the tests."""
