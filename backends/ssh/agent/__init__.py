"""The program on the host: a folder that Python 3.9 or newer runs, standard library alone.

The launcher runs it anew for each question, with one JSON object on its standard input; it answers with one and ends.
Nothing of it stays in memory: what lives on between two questions is the worker's supervisor, which is not ours.
"""
