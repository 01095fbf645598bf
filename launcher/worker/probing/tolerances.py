"""How far two machines that compute the same may be apart: the noise as measured, and what is allowed on its account.

MEASURED: 2026-11-22, `python -m benchmarks.probe_noise`, ultralytics 8.4.190, torch 2.15.0, x86-64 with AVX-512, CPU,
float32; yolo11n at 96 and 640 pixels, yolo11s at 320, yolo26n at 320, random weights: the probe's steps against the
same steps with one thread, as `compare.relative`. The same again: 0 everywhere. With the rate of `kernel` the noise
stays where it is from step to step; with fifty times that rate it grows thirtyfold a step.

    rounding       largest of 2 threads, without oneDNN, float64
    channels last  on the CPU, where the trainer never uses it: its batch normalisation adds up in float32, image after
                   image, which shows at 640 pixels (first layer 3e-5 at 96 and 320, 2.5e-4 there)

What is allowed between two CPUs is ROUNDING times CPU_MARGIN. Between others it is an ASSUMPTION: nothing was computed
on CUDA or MPS here. It lies between plain rounding and reduced precision: rounding inputs to TF32's 10 bits moves the
first layer's output by 2.8e-4 (measured), and the head's by ten times as much.

For comparison, facts 2.1: a run with other loader workers differs by 2e-2 in the loss of the first step, with another
seed by 7e-3.
"""

from __future__ import annotations

SOURCE = "measured 2026-11-22 on the CPU (launcher/worker/probing/tolerances.py); CUDA and MPS: an assumption"
ROUNDING = {
    "first_values": (1.8e-7, 7.4e-6),
    "head_values": (5.9e-6, 2.0e-4),
    "assigned": (0.0, 0.0),
    "assigned_score": (2.9e-6, 1.1e-4),
    "losses": (4.8e-6, 1.3e-4),
    "gradient": (2.5e-5, 3.6e-4),
    "gradient_values": (2.0e-4, 2.0e-2),
    "weights_values": (2.5e-8, 5.8e-8),
}
"""Quantity → largest relative difference at the first step, and at the later three."""
CHANNELS_LAST = {
    "first_values": (2.5e-4, 4.5e-4),
    "head_values": (7.7e-4, 1.5e-2),
    "assigned": (0.0, 0.0),
    "assigned_score": (1.7e-3, 4.5e-3),
    "losses": (8.9e-4, 2.1e-3),
    "gradient": (2.9e-2, 6.8e-2),
    "gradient_values": (1.5e-1, 3.3e-1),
    "weights_values": (2.1e-7, 7.3e-7),
}
"""The same for channels last: recorded, and allowed by no row."""
CPU_MARGIN = 20.0
"""Assumption: other CPUs and builds of torch than the measured ones round like those, within this factor."""
ACROSS = {
    "first_values": (1e-4, 6e-4),
    "head_values": (2e-3, 5e-2),
    "assigned": (0.01, 0.02),
    "assigned_score": (3e-4, 5e-3),
    "losses": (3e-4, 5e-3),
    "gradient": (1e-2, 2e-1),
    "gradient_values": (1e-1, 5e-1),
    "weights_values": (1e-6, 3e-6),
}
"""Assumption, for any pair but two CPUs."""
ASSIGNED_CPU = (0.005, 0.01)
"""Share of the targets that near ties may move (none did, in 16 comparisons): assumption."""
MINIMUM_ASSIGNED = 2.0  # targets that may always differ, however few there are: one tie moves two
DECODER_FIELD = 1.0
"""Levels (of 255) by which the mean of a field may differ between two image decoders: assumption. One level at random
moves it by 0.25 at 96 pixels, encoding anew at quality 75 by 1.7 (measured, tests/parity/probing/planted.py)."""
DECODER_PIXEL = 4
"""Levels by which a pixel may: assumption. Inverse transforms are within 1 of each other by IEEE 1180; conversion of
colours and chroma upsampling add to that."""
ENCODED_FIELD = 6.0
"""Levels up to which it is called the same picture encoded anew, and above another augmentation: assumption."""
REDUCED = 1e-4
"""Relative difference of the first layer's output from which on it is called reduced precision: TF32 gives 2.8e-4
(measured by rounding inputs to 10 bits), plain float32 2e-7."""


def tolerance(quantity: str, pair: str, step: int) -> float:
    """Largest relative difference of a quantity at a step between two sound machines.

    `pair`: both devices, sorted, as "cpu" for two CPUs or "cpu-cuda". Raises KeyError for an unknown quantity.
    """
    later = int(step > 0)
    if pair != "cpu":
        return ACROSS[quantity][later]
    if quantity == "assigned":
        return ASSIGNED_CPU[later]
    return CPU_MARGIN * ROUNDING[quantity][later]
