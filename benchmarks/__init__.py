"""How fast samerun is, against peers and against doing the same by hand: `python -m benchmarks [NAME...]`."""
