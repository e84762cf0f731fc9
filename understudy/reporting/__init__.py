"""The report of a run as one HTML page: what became of every character of the texts.

    figures      bins, shares and colours of the charts
    excerpts     stretches of a source with the spans that became lines
    page         the page itself, from a JSON document (jobs/report.py gathers it)

Everything in a report comes from texts and models, so it is hostile: the template escapes all of it, the page loads
nothing and runs no script.
"""
