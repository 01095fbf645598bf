"""Is the run that came back the same experiment?"""
