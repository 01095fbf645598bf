"""The content-addressed input of a run."""
