"""The kernel of an attempt: its name, its source, and what runs in it.

    source  writes the script that is pushed: configuration, small inputs, and the two below
    script  the program of the kernel: lays out the box, starts the worker's supervisor, hands on what it says
    steps   what the supervisor runs before the training: install, attach

`script` and `steps` travel: standard library only, Python 3.10 to 3.14.
"""
