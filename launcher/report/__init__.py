"""The report: one HTML file with interactive charts, a Markdown file beside it, and still pictures of the charts.

    said = analyse(load_run("runs/smoke-zfrh46"), against=[load_run("base")])
    write(said, Path("out"))                  # report.html, report.md
    page(said)                                # the HTML as text
    charts(said)[0]                           # in a notebook: drawn; elsewhere: .figure(), .svg(), .png()
    Report(said)                              # in a notebook: the whole page

Nothing here decides what the numbers mean: that is `launcher.analysis`. Importing this imports neither Plotly nor
matplotlib.
"""

from launcher.report.chart import Chart, Line
from launcher.report.charts import charts
from launcher.report.write import Report, Written, page, write

__all__ = ["Chart", "Line", "Report", "Written", "charts", "page", "write"]
