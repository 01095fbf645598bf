"""The dataset where the training is: read as Ultralytics reads it, hashed, listed; made by the user's script first.

    dataset      data.yaml: which images are in which split, and where the label of each lies
    fingerprint  the formula by which files and splits become one digest
    prepare      runs the script that makes the dataset of what is attached
    listing      finds, reads and hashes a dataset that nobody has looked at before

`launcher.data` reads datasets with the first two as well, so that a dataset has one meaning and one fingerprint.
"""
