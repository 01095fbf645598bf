"""samerun: one job spec, one Ultralytics YOLO training run, any machine; what comes back is verified.

Importing this package imports nothing else: the command line has to answer at once.
"""

__version__ = "0.1.0"
