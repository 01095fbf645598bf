"""What travels: the program that runs the training on the machine, the same file everywhere.

Standard library and, in the training process alone, Ultralytics. Imports nothing else of samerun. Python 3.10 to 3.14.

    __main__    the ways it is started: supervise, prove, prepare, train, nursery
    box         the folder an attempt lives in, and how files in it are written
    supervise   the small process that stays beside the training: lines, events, restarts, the last word
    stream      lines, numbered events without secrets, and the bell that wakes followers
    nursery     starts supervisors by forking, for many short attempts
    train       the training process: settings, dataset view, resume, callbacks
    prove       something computed on the device, before data is read
    events      how the training process talks to the supervisor
    checkpoint  copies set aside after each epoch, and what a resume needs to be honest
    data        a dataset that nobody has looked at before: made by the user's script, read, hashed, listed
    unshard     a dataset that a service has mounted as archives, or unpacked: found, and laid as a tree of links
    view        the dataset as Ultralytics may have it: links to images, copies of labels, its cache outside the data
    validation  the numbers behind the pictures of the final evaluation
    guard       what is watched while training: device, NaN, dead losses, a machine that slept
    scratch     the folder for temporary files, short enough for sockets
    manifest    path, size and sha256 of every output
"""
