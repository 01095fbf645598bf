"""The probe: a few optimiser steps from fixed weights on fixed batches, and the first batches of the machine's loader.

probe       the process: what came, what was computed, what it means
trainer     Ultralytics' own trainer, taken as far as its first batch
kernel      the steps, and what is written down of each
loader      what is written down of the images and targets that the loader gives
tensors     the fixed batches and weights: how many, how they are packed, their digests
compare     two records side by side: identical, within noise, different, not comparable (standard library alone)
streams     the loader's share of that
tolerances  how far two machines that compute the same may be apart: the table, and where each number is from
"""
