"""What a results.csv says: reading, comparing, and the statements that a report shows.

    view = load_run("runs/smoke-zfrh46")            # a run, a folder of Ultralytics, or a results.csv
    said = analyse(view, against=[load_run("base")])
    print(markdown(said)); said.as_json()
    compare([view, other]).rows

Imports neither Ultralytics, torch, numpy nor pandas. Text from files (names, notes, classes) is passed on as it is:
whoever shows it escapes it.
"""

from launcher.analysis.analyse import analyse
from launcher.analysis.compare import compare
from launcher.analysis.markdown import markdown
from launcher.analysis.reading.results import read_results
from launcher.analysis.reading.run import load_run

__all__ = ["analyse", "compare", "load_run", "markdown", "read_results"]
