"""What travels: the program that runs the training on the machine, the same file everywhere.

Standard library and, in the training process alone, Ultralytics. Imports nothing else of samerun. Python 3.10 to 3.14.

    __main__   the ways it is started: supervise, prove, probe, prepare, train, nursery
    box        the folder an attempt lives in, and how files in it are written
    supervise  the small process that stays beside the training: lines, events, restarts, the last word
    stream     lines, numbered events without secrets, and the bell that wakes followers
    events     how the training process talks to the supervisor
    manifest   path, size and sha256 of every output
    prove      something computed on the device, before data is read
    probing/   a few steps from fixed weights on fixed batches: does this machine compute the same?
    nursery    starts supervisors by forking, for many short attempts
    scratch    the folder for temporary files, short enough for sockets
    data/      the dataset: made by the user's script, found in archives, read, hashed, listed, and a view of it
    training/  the training process: one call of Ultralytics, guarded, with checkpoints set aside
"""
