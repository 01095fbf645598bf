"""Driving a run to its end.

drive      submit, follow, sync, verify, and go on after a loss
following  what an attempt's worker says and what its backend says of it, taken into the run's record
attempts   from a run's record to what a backend is told
staging    sending what is large, and saying meanwhile how far it has come
partial    checkpoints come home while the training goes on
collect    fetching by manifest, and what a run must have to be called verified
release    giving machines back
"""
