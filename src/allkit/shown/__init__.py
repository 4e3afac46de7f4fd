"""What comes from outside, as people may be shown it, and how far work is.

text      on a terminal, in a spreadsheet, as JSON
html      pieces of a page, a whole one, and what a notebook shows of an object
answer    an answer in a notebook
telling   lines about work that takes its time
progress  bars in a notebook and on a terminal, lines in a log
"""
