"""Benchmarks against other packages. `make bench` runs all of them."""
