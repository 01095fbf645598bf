"""Compute Engine: the client bounded, what its refusals mean, what is asked of it, and a machine put into a zone."""
