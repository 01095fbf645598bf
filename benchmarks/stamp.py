"""A job that does nothing but say when it says something: 15 lines, each with its own time in nanoseconds.

Standard library only; arguments are ignored, so that it can run as a payload of samerun and alone.
"""

import time

LINES = 15
PAUSES_S = (0.05, 0.23, 0.11, 0.17, 0.07, 0.19, 0.13, 0.05, 0.21, 0.09, 0.15, 0.23, 0.06, 0.12)
"""Pauses between the lines: uneven, so that no poller can fall into step with them."""


def main() -> None:
    """Print the lines."""
    for number in range(LINES):
        print(f"STAMP {number} {time.time_ns()}", flush=True)
        if number < len(PAUSES_S):
            time.sleep(PAUSES_S[number])


if __name__ == "__main__":
    main()
