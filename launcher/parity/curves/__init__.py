"""What results.csv says of two runs: the same numbers, inside the spread of seeds, within a margin, or neither."""
