"""A machine behind a connection: its facts, our program on it, boxes, datasets and the environment that trains.

Free of what only `--backend ssh` is concerned with: other backends use it for machines that they have made.
"""
