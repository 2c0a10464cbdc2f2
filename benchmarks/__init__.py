"""Our cost beside the peers'. `make bench` runs all of it."""
