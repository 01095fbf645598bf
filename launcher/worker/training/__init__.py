"""The training process.

train       one call of Ultralytics: settings, dataset view, resume, callbacks
checkpoint  copies set aside after each epoch, and what a resume needs to be honest
guard       what is watched while training: device, NaN, dead losses, a machine that slept
validation  the numbers behind the pictures of the final evaluation
"""
